"""A real server with a real small model, for the clients that people use.

The model runs on llama.cpp; with ``VLLM_PYTHON``, the Python of an environment that has vLLM, on
that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_READY = re.compile(r"Jarvis is ready at (http://\S+)")

# The chat format: the model's own cannot print tools.
LLAMA_CPP = """
[models.tiny]
source = "smollm2"
chat_format = "chatml-qwen2.5"
context_length = 2048
settings = { n_threads = 1 }

[models.vectors]
source = "smollm2"
context_length = 512
settings = { n_threads = 1, pooling = "mean" }
"""

VLLM = """
[models.tiny]
source = "SOURCE"
engine = "vllm"
python = "PYTHON"
chat_format = "chatml-qwen2.5"
context_length = 2048
[models.tiny.settings]
dtype = "float32"
enforce_eager = true
max_num_seqs = 16
kv_cache_memory_bytes = 536870912
# The clients' second turns are short, and only whole blocks are reused.
engine_args = { block_size = 32 }

[models.vectors]
source = "SOURCE"
engine = "vllm"
python = "PYTHON"
context_length = 512
[models.vectors.settings]
dtype = "float32"
enforce_eager = true
kv_cache_memory_bytes = 134217728
runner = "pooling"
engine_args = { convert = "embed" }
"""

KEY = "sk-clients"


# One for each model: another on a busy machine makes both wait.
THREADS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


def models() -> str:
    """Settings of the models."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        return LLAMA_CPP
    program = ROOT / "scripts" / "smollm2_hf.py"
    done = subprocess.run([python, program], stdout=subprocess.PIPE, text=True, check=True)
    return VLLM.replace("SOURCE", done.stdout.strip()).replace("PYTHON", python)


class Server:
    """A running ``jarvis serve``.

    Attributes:
        url: Where it listens.
        key: A key that it takes.
    """

    def __init__(self, directory: Path) -> None:
        (directory / "jarvis.toml").write_text(models())
        kept = {k: v for k, v in os.environ.items() if not k.startswith("JARVIS_")}
        self.key = KEY
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jarvis_core", "serve"],
            cwd=directory,
            env=kept | THREADS | {"JARVIS_PORT": "0", "JARVIS_API_KEY": KEY},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._log: list[str] = []
        self.url = self._wait()
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _wait(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line)
            if found := _READY.search(line):
                return found[1]
        raise AssertionError("".join(self._log))

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line)

    def close(self) -> None:
        """End it."""
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(30)
        self._reader.join()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of all tests here."""
    with tempfile.TemporaryDirectory() as directory:
        running = Server(Path(directory))
        yield running
        running.close()


@pytest.fixture(scope="session")
def base_url(server: Server) -> str:
    """What OpenAI's clients are told."""
    return f"{server.url}/v1"


@pytest.fixture(scope="session")
def key(server: Server) -> str:
    """The key that clients send."""
    return server.key


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What async clients run on."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give vLLM time: loading two models of it takes minutes on a busy machine."""
    if os.environ.get("VLLM_PYTHON"):
        for item in items:
            item.add_marker(pytest.mark.timeout(600))
