"""What an engine has to do beyond generating, as tests that ``EngineConformance`` inherits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, cast

from attrs import evolve

from jarvis_core.errors import ContextLengthExceeded
from jarvis_core.interfaces import Embedder, Engine, PrefixCache, Reranker, Sleeper
from jarvis_core.structs import (
    EngineOutput,
    GenerationRequest,
    Prompt,
    SamplingParams,
    Segment,
    SegmentKind,
)

PATIENCE = 60.0
"""Seconds after which an engine that does not go on has failed."""

LONG = 50
"""Times that five words are said: more tokens than a block of any prefix cache has."""


class TaskConformance:
    """Tests of tasks and of prompt logprobs; what an engine does not declare is not tried."""

    # -- prompt logprobs -------------------------------------------------------------------

    async def test_each_prompt_token_but_the_first_has_its_logprob(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.parameters, "prompt_logprobs")
        prompt = text("Two and two are four, and three and three are six.")
        ids = await engine.tokenize(prompt)
        for _ in range(2):  # the second time, a prefix cache may hold it
            first, second, *_ = await outputs_of(engine, prompt, prompt_logprobs=2)
            found = first.prompt_logprobs or second.prompt_logprobs

            assert len(found) == len(ids)
            assert found[0] is None
            for token_id, logprob in zip(ids[1:], found[1:], strict=True):
                assert logprob is not None
                assert logprob.token_id == token_id
                assert logprob.logprob <= 0
                values = [top.logprob for top in logprob.top]
                assert len(values) == 2
                assert values == sorted(values, reverse=True)

    async def test_prompt_logprobs_alone_may_be_asked_for(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.parameters, "prompt_logprobs")
        prompt = text("one two three")
        first, second, *_ = await outputs_of(engine, prompt, prompt_logprobs=0)
        found = first.prompt_logprobs or second.prompt_logprobs

        assert [logprob and logprob.top for logprob in found] == [None, *[()] * (len(found) - 1)]

    # -- embed -----------------------------------------------------------------------------

    async def test_vectors_have_length_one_and_tell_texts_apart(self, engine: Engine) -> None:
        found = await _embedder(engine).embed([text("a cat"), text("tax law"), text("a cat")])
        first, other, same = found.vectors

        assert len({len(vector) for vector in found.vectors}) == 1
        assert all(abs(math.hypot(*vector) - 1) < 1e-3 for vector in found.vectors)
        assert similarity(first, same) > 0.999
        assert similarity(first, other) < 0.999

    async def test_embedding_counts_the_tokens_of_all_prompts(self, engine: Engine) -> None:
        embedder = _embedder(engine)
        prompts = [text("a cat"), text("tax law in the eighteenth century")]
        found = await embedder.embed(prompts)

        assert found.prompt_tokens == sum([len(await engine.tokenize(p)) for p in prompts])

    async def test_token_ids_embed_as_their_text_does(self, engine: Engine) -> None:
        embedder = _embedder(engine)
        prompt = text("a cat sat down")
        ids = Prompt(token_ids=tuple(await engine.tokenize(prompt)))
        found = await embedder.embed([prompt, ids])

        assert similarity(*found.vectors) > 0.999

    async def test_embeddings_at_once_do_not_mix(self, engine: Engine) -> None:
        embedder = _embedder(engine)
        prompts = [text(word) for word in ("cat", "law", "rain", "seven")]
        alone = [(await embedder.embed([prompt])).vectors[0] for prompt in prompts]
        together = await asyncio.gather(*(embedder.embed([prompt]) for prompt in prompts))

        for one, other in zip(alone, together, strict=True):
            assert similarity(one, other.vectors[0]) > 0.99

    async def test_a_text_too_long_to_embed_is_refused_and_not_cut(self, engine: Engine) -> None:
        embedder = _embedder(engine)
        long = text("word " * (engine.info.context_length + 8))
        refusal = ""
        try:
            async with asyncio.timeout(PATIENCE):
                await embedder.embed([text("short"), long])
        except ContextLengthExceeded as error:
            refusal = error.message

        assert f"{engine.info.context_length}" in refusal.replace(",", "")
        await embedder.embed([text("short")])

    # -- rerank ----------------------------------------------------------------------------

    async def test_the_document_that_answers_scores_highest(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.tasks, "rerank")
        documents = [
            "Bread is baked from flour, water and yeast.",
            "Paris is the capital of France.",
            "The stock market fell on Tuesday.",
        ]
        found = await cast(Reranker, engine).rerank("What is the capital of France?", documents)

        assert len(found.scores) == 3
        assert max(found.scores) == found.scores[1]
        assert found.prompt_tokens > 0

    # -- prefix cache ----------------------------------------------------------------------

    async def test_after_a_reset_no_prefix_is_found(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.tasks, "prefix_cache_reset")
        assert isinstance(engine, PrefixCache)
        prompt = text("the same words again and again " * LONG)
        await outputs_of(engine, prompt)
        await outputs_of(engine, prompt)
        await engine.reset()
        usage = (await outputs_of(engine, prompt))[-1].usage

        assert usage is not None
        assert usage.cached_tokens == 0

    async def test_a_reset_forgets_beside_a_request_that_goes_on(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.tasks, "prefix_cache_reset")
        assert isinstance(engine, PrefixCache)
        ended = text("these words were said before " * LONG)
        await outputs_of(engine, ended)
        request = GenerationRequest(
            id="conformance",
            prompt=text("one two three four five six seven eight nine ten"),
            sampling=SamplingParams(temperature=0.0, max_tokens=24),
        )
        async with asyncio.timeout(PATIENCE), aclosing(engine.generate(request)) as running:
            found = [await anext(running), await anext(running)]
            await engine.reset()
            found += [output async for output in running]
        usage = (await outputs_of(engine, ended))[-1].usage

        assert found[-1].finish_reason is not None
        assert usage is not None
        assert usage.cached_tokens == 0

    # -- sleep -----------------------------------------------------------------------------

    async def test_after_sleeping_at_any_level_it_answers_as_before(self, engine: Engine) -> None:
        _needs(engine.info.capabilities.tasks, "sleep")
        assert isinstance(engine, Sleeper)
        before = await _answer(engine)
        for level in (1, 2):
            async with asyncio.timeout(PATIENCE):
                await engine.sleep(level)
                engine.stats()  # the host is asked for them all the while
                await engine.wake()
            again = await _answer(engine)

            assert len(again) == len(before)
            assert all(abs(a - b) < 1e-2 for a, b in zip(again, before, strict=True))


def text(content: str) -> Prompt:
    """A prompt of nothing but content."""
    segment = Segment(kind=SegmentKind.CONTENT, text=content)
    return Prompt(segments=(segment,), add_special_tokens=True)


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of length one."""
    return sum(a * b for a, b in zip(one, other, strict=True))


async def outputs_of(engine: Engine, prompt: Prompt, **changes: Any) -> list[EngineOutput]:
    """All outputs of a request for one greedy token."""
    request = GenerationRequest(
        id="conformance",
        prompt=prompt,
        sampling=SamplingParams(temperature=0.0, max_tokens=1),
    )
    async with asyncio.timeout(PATIENCE):
        return [output async for output in engine.generate(evolve(request, **changes))]


async def _answer(engine: Engine) -> Sequence[float]:
    """What an engine says or computes, in numbers."""
    tasks = engine.info.capabilities.tasks
    if "generate" in tasks:
        sampling = SamplingParams(temperature=0.0, max_tokens=8)
        outputs = await outputs_of(engine, text("one two three four"), sampling=sampling)
        return [token_id for output in outputs for token_id in output.token_ids]
    if "embed" in tasks:
        return (await cast(Embedder, engine).embed([text("a cat")])).vectors[0]
    return (await cast(Reranker, engine).rerank("cat", ["a cat", "a dog"])).scores


def _embedder(engine: Engine) -> Embedder:
    _needs(engine.info.capabilities.tasks, "embed")
    assert isinstance(engine, Embedder)
    return engine


def _needs(declared: frozenset[str], name: str) -> None:
    """Skip a test of what the engine does not declare; only who inherits needs pytest."""
    import pytest

    if name not in declared:
        pytest.skip(f"not declared: {name}")
