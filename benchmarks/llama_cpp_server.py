"""``llama_cpp.server``, the Python server of llama-cpp-python, on the very same library."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from llama_server import CACHE, backend_version
from processes import Server, free_port

NAME = "llama_cpp.server"


def server(model: Path, *, context: int, threads: int, folder: Path) -> Server:
    """The server, not started; the first time its own requirements are fetched.

    It answers one request after the other. They are installed apart, because they ask for other
    versions of libraries that Jarvis uses too.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "llama_cpp.server", "--model", str(model)),
        *("--model_alias", "bench", "--n_ctx", str(context), "--interrupt_requests", "False"),
        *("--n_threads", str(threads), "--n_threads_batch", str(threads)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    return Server(NAME, command, port, folder, environ={"PYTHONPATH": str(_packages())})


def _packages() -> Path:
    folder = CACHE / f"server-{backend_version()}"
    if not (folder / "fastapi").exists():
        wanted = [
            requirement.partition(";")[0].strip()
            for requirement in importlib.metadata.requires("llama-cpp-python") or ()
            if re.search(r"extra == .server.", requirement)
        ]
        pip = (sys.executable, "-m", "pip", "install", "-q", "--target", str(folder))
        subprocess.run((*pip, *wanted), check=True, stdout=sys.stderr)
    return folder
