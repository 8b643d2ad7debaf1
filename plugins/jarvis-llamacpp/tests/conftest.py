"""One engine with a small real model for all tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jarvis_core import Engine, ModelSpec
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The engine host runs on asyncio; one loop serves all tests, as one engine does."""
    return "asyncio"


@pytest.fixture(scope="session")
async def engine(anyio_backend: str) -> AsyncIterator[Engine]:
    """SmolLM2-135M-Instruct. One thread: another on a busy machine makes both wait."""
    spec = ModelSpec(name="tiny", source="smollm2", path="smollm2", context_length=1024)
    settings = LlamaCppSettings(n_threads=1, kv_size=4096, n_batch=128)
    engine = await LLAMA_CPP.load(spec, settings)
    yield engine
    await engine.aclose()
