"""Models that give vectors or scores: a tiny random encoder, and a generative model that pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from tiny_gguf import CONTEXT, WIDTH, write_encoder

from jarvis_core import (
    ContextLengthExceeded,
    Embedder,
    Engine,
    EngineDied,
    GenerationRequest,
    ModelSpec,
    Prompt,
    Reranker,
    Segment,
    SegmentKind,
    SettingError,
    UnsupportedParameter,
)
from jarvis_core.testing.task_conformance import TaskConformance, similarity, text
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio


async def load(path: Path | str, **settings: Any) -> Engine:
    context = settings.pop("context_length", None)
    spec = ModelSpec(name="pooled", source=str(path), path=str(path), context_length=context)
    return await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, **settings))


@pytest.fixture(scope="module")
async def encoder(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_encoder(tmp_path_factory.mktemp("encoder") / "bert.gguf", pooling=1)
    engine = await load(path)
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
async def ranker(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_encoder(tmp_path_factory.mktemp("ranker") / "bert.gguf", pooling=4)
    engine = await load(path)
    yield engine
    await engine.aclose()


class TestEncoder(TaskConformance):
    """The kit with the tiny encoder."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def engine(self, encoder: Engine) -> Engine:
        return encoder


class TestGenerativeModel(TaskConformance):
    """The kit with SmolLM2, whose last token's vector stands for the text."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture(scope="class")
    async def engine(self, anyio_backend: str) -> AsyncIterator[Engine]:
        engine = await load("smollm2", pooling="last", context_length=64)
        yield engine
        await engine.aclose()


async def test_a_model_that_pools_embeds_and_does_not_generate(encoder: Engine) -> None:
    assert encoder.info.capabilities.tasks == {"embed"}
    assert encoder.info.context_length == CONTEXT
    with pytest.raises(UnsupportedParameter, match="does not generate"):
        await anext(encoder.generate(GenerationRequest(id="t", prompt=text("a cat"))))


async def test_texts_begin_and_end_as_the_model_was_trained(encoder: Engine) -> None:
    ids = await encoder.tokenize(text("a cat"))

    assert await encoder.detokenize(ids[:1]) == "[CLS]"
    assert await encoder.detokenize(ids[-1:]) == "[SEP]"
    bare = Prompt(segments=text("a cat").segments)
    assert await encoder.tokenize(bare) == ids[1:-1]


async def test_control_tokens_in_texts_are_text(encoder: Engine) -> None:
    segment = Segment(kind=SegmentKind.CONTENT, text="a [SEP] cat")
    ids = await encoder.tokenize(Prompt(segments=(segment,), add_special_tokens=True))
    separator = (await encoder.tokenize(text("a")))[-1]

    assert ids.count(separator) == 1


async def test_characters_without_a_token_are_no_trouble(encoder: Engine) -> None:
    found = await cast(Embedder, encoder).embed([text("a 🎉 cat"), text("世界")])

    assert len(found.vectors) == 2


async def test_more_texts_than_a_step_holds_come_in_order(encoder: Engine) -> None:
    embedder = cast(Embedder, encoder)
    words = ["a", "cat", "tax", "law", "sat"] * 8
    alone = [(await embedder.embed([text(word)])).vectors[0] for word in words[:5]]
    found = await embedder.embed([text(word) for word in words])

    assert len(found.vectors[0]) == WIDTH
    for i, vector in enumerate(found.vectors):
        assert similarity(vector, alone[i % 5]) > 0.999


async def test_a_request_that_is_given_up_leaves_the_queue(encoder: Engine) -> None:
    embedder = cast(Embedder, encoder)
    gone = asyncio.create_task(embedder.embed([text("a cat sat down")] * 500))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(30):
        await embedder.embed([text("law")])
        while encoder.stats().running or encoder.stats().waiting:
            await asyncio.sleep(0.01)


async def test_a_request_with_many_texts_does_not_stand_before_others(encoder: Engine) -> None:
    embedder = cast(Embedder, encoder)
    wide = asyncio.create_task(embedder.embed([text("a cat sat down")] * 2000))
    async with asyncio.timeout(30):
        while not encoder.stats().waiting:
            await asyncio.sleep(0)
        await embedder.embed([text("law")])
    assert not wide.done()
    wide.cancel()
    await asyncio.gather(wide, return_exceptions=True)


async def test_documents_are_scored_each_for_itself(ranker: Engine) -> None:
    assert ranker.info.capabilities.tasks == {"rerank"}
    reranker = cast(Reranker, ranker)
    documents = ["a cat sat down", "tax law", "a word"]
    found = await reranker.rerank("a cat", documents)
    backwards = await reranker.rerank("a cat", documents[::-1])
    other = await reranker.rerank("tax", documents)

    assert len({round(score, 6) for score in found.scores}) == 3
    assert list(backwards.scores)[::-1] == pytest.approx(list(found.scores), abs=1e-4)
    assert list(other.scores) != pytest.approx(list(found.scores), abs=1e-4)
    pairs = [len(await ranker.tokenize(text(d))) + 3 for d in documents]
    assert found.prompt_tokens == sum(pairs)


async def test_a_document_that_does_not_fit_is_refused(ranker: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match="64"):
        await cast(Reranker, ranker).rerank("a cat", ["law", "word " * CONTEXT])


async def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = await load(write_encoder(tmp_path / "bert.gguf", pooling=2))
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineDied):
        await cast(Embedder, engine).embed([text("a cat")])


async def test_more_tokens_than_an_encoder_has_positions_are_refused(tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "bert.gguf", pooling=1)
    with pytest.raises(SettingError, match="64 positions"):
        await load(path, context_length=CONTEXT + 1)


async def test_an_encoder_that_shall_generate_is_refused(tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "bert.gguf", pooling=1)
    with pytest.raises(Exception, match="does not generate text"):
        await load(path, pooling="none")
