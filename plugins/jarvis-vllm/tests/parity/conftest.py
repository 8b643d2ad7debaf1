"""One server with the same small model twice: on llama.cpp, and on vLLM in another environment.

Twice again, as a model that makes vectors.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from served import Server, serving

ROOT = Path(__file__).parents[4]
LOAD = 400.0
"""Seconds that loading may take on a machine that does other things too."""

THREADS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""One for each model: another on a busy machine makes both wait."""

TOML = """
[models.llama]
source = "smollm2"
engine = "llama_cpp"
# One that may think; requests say when.
chat_format = "qwen3"
context_length = 1024
[models.llama.settings]
n_threads = 1
max_num_seqs = 8

[models.vllm]
source = "{source}"
engine = "vllm"
python = "{python}"
chat_format = "qwen3"
context_length = 1024
[models.vllm.settings]
dtype = "float32"
enforce_eager = true
max_num_seqs = 8
kv_cache_memory_bytes = 536870912

[models.llama-vectors]
source = "smollm2"
engine = "llama_cpp"
context_length = 256
[models.llama-vectors.settings]
n_threads = 1
pooling = "last"

[models.vllm-vectors]
source = "{source}"
engine = "vllm"
python = "{python}"
context_length = 256
[models.vllm-vectors.settings]
dtype = "float32"
enforce_eager = true
max_num_seqs = 8
kv_cache_memory_bytes = 134217728
runner = "pooling"
[models.vllm-vectors.settings.engine_args]
convert = "embed"
"""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the server that all tests use."""
    return "asyncio"


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """Python of the environment that has vLLM."""
    found = os.environ.get("VLLM_PYTHON", "")
    assert os.path.exists(found), (
        f"VLLM_PYTHON is {found!r}: name the Python of an environment that has vLLM, as the tox "
        "environment vllm-cpu makes one"
    )
    return found


@pytest.fixture(scope="session")
def smollm2(vllm_python: str) -> str:
    """Directory of the model in the format of Hugging Face."""
    program = ROOT / "scripts" / "smollm2_hf.py"
    done = subprocess.run([vllm_python, program], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
async def server(
    anyio_backend: str,
    vllm_python: str,
    smollm2: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Server]:
    """The server; its client sends the first of two keys."""
    async with serving(tmp_path_factory.mktemp("parity")) as serve:
        toml = TOML.format(source=smollm2, python=vllm_python)
        server = await serve(toml, wait=False, JARVIS_API_KEY="one,two", **THREADS)
        server.client.headers["authorization"] = "Bearer one"
        await server.ready(LOAD)
        yield server
