"""The small model as an embedder: what it ends a text with, from the pooling runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import Embedder, Engine, GenerationRequest, ModelSpec, PromptBuilder, RequestError
from jarvis_core.testing.task_conformance import TaskConformance
from jarvis_vllm import VLLM

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
async def engine(anyio_backend: str, smollm2: str, settings: Any) -> AsyncIterator[Engine]:
    """The model with the runner ``pooling``."""
    spec = ModelSpec(name="tiny", source=smollm2, path=smollm2, context_length=512)
    engine = await VLLM.load(
        spec, evolve(settings, runner="pooling", engine_args={"convert": "embed"})
    )
    yield engine
    await engine.aclose()


class TestPooling(TaskConformance):
    """What every embedder and reranker does."""


async def test_an_embedder_says_what_it_does(engine: Engine) -> None:
    assert engine.info.capabilities.tasks == {"embed", "rerank"}
    assert engine.info.capabilities.parameters == set()


async def test_an_embedder_writes_no_text(engine: Engine) -> None:
    request = GenerationRequest(id="r", prompt=PromptBuilder().content("a").build())
    with pytest.raises(RequestError, match="vectors and scores, no text"):
        await anext(engine.generate(request))


async def test_a_single_text_does_not_wait_for_all_of_a_call_with_many(engine: Engine) -> None:
    assert isinstance(engine, Embedder)
    many = [PromptBuilder().content(f"{i} " + "word " * 400).build() for i in range(48)]
    crowd = asyncio.create_task(engine.embed(many))
    async with asyncio.timeout(120):
        while not engine.stats().running:
            await asyncio.sleep(0.001)
    found = await engine.embed([PromptBuilder().content("a").build()])

    assert len(found.vectors) == 1
    assert not crowd.done()
    assert len((await crowd).vectors) == 48


async def test_nothing_is_open_after_the_work(engine: Engine) -> None:
    stats = engine.stats()

    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)
    assert stats.prompt_tokens > 0
