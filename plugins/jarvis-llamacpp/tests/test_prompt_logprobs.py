"""Logprobs of the prompt's own tokens, with the real model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import (
    Engine,
    EngineOutput,
    GenerationRequest,
    Prompt,
    PromptBuilder,
    SamplingParams,
    TokenLogprob,
)

pytestmark = pytest.mark.anyio

TEXT = "The quick brown fox jumps over the lazy dog, and the dog barks at the fox. "


async def run(engine: Engine, prompt: Prompt, **changes: Any) -> list[EngineOutput]:
    sampling = {"temperature": 0.0, "max_tokens": changes.pop("max_tokens", 4)}
    request = GenerationRequest(
        id="t", prompt=prompt, sampling=SamplingParams(**sampling), prompt_logprobs=1
    )
    async with asyncio.timeout(110):
        return [output async for output in engine.generate(evolve(request, **changes))]


def found(outputs: list[EngineOutput]) -> list[TokenLogprob]:
    """Those of all tokens but the first; they come second, before all text."""
    assert [bool(output.prompt_logprobs) for output in outputs[:2]] == [False, True]
    assert not any(output.prompt_logprobs for output in outputs[2:])
    assert outputs[1].prompt_logprobs[0] is None
    return [logprob for logprob in outputs[1].prompt_logprobs[1:] if logprob is not None]


async def test_a_token_is_as_likely_in_a_prompt_as_when_it_was_generated(engine: Engine) -> None:
    prompt = PromptBuilder().scaffold("1 2 3 4 5 6 7 8 9 10 11").build()
    outputs = await run(engine, prompt, max_tokens=6, logprobs=1, prompt_logprobs=None)
    said = [logprob for output in outputs for logprob in output.logprobs]
    ids = await engine.tokenize(prompt) + [logprob.token_id for logprob in said]
    again = found(await run(engine, Prompt(token_ids=tuple(ids))))[-len(said) :]

    assert [logprob.token_id for logprob in again] == [logprob.token_id for logprob in said]
    for one, other in zip(again, said, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.3)
        assert one.top[0].token_id == other.top[0].token_id


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
async def test_long_prompts_beside_others_are_scored_whole(engine: Engine, max_tokens: int) -> None:
    prompt = PromptBuilder().scaffold(TEXT * 5).build()
    ids = await engine.tokenize(prompt)
    alone = found(await run(engine, prompt, max_tokens=max_tokens))
    plain = run(engine, prompt, prompt_logprobs=None, max_tokens=12)
    others = [run(engine, prompt, max_tokens=max_tokens) for _ in range(2)]
    first, *rest = await asyncio.gather(plain, *others)

    assert first[-1].usage is not None
    assert [logprob.token_id for logprob in alone] == ids[1:]
    for outputs in rest:
        for one, other in zip(found(outputs), alone, strict=True):
            assert one.token_id == other.token_id
            assert one.logprob == pytest.approx(other.logprob, abs=1.0)
    # What is said for the fifth time is no surprise.
    assert sum(logprob.logprob for logprob in alone[-15:]) > -15 > alone[0].logprob * 15


async def test_several_continuations_come_after_the_prompts_logprobs(engine: Engine) -> None:
    prompt = PromptBuilder().scaffold(TEXT * 3).build()
    outputs = await run(engine, prompt, n=3, max_tokens=3)

    assert len(found(outputs)) == len(await engine.tokenize(prompt)) - 1
    ends = [output.index for output in outputs if output.finish_reason is not None]
    assert sorted(ends) == [0, 1, 2]
    assert outputs[-1].usage is not None
    assert outputs[-1].usage.completion_tokens == 9


async def test_a_prompt_that_is_not_continued_ends_with_its_logprobs(engine: Engine) -> None:
    outputs = await run(engine, PromptBuilder().scaffold(TEXT).build(), max_tokens=0, n=2)

    assert found(outputs)
    assert [output.finish_reason for output in outputs[2:]] == ["length", "length"]
    assert outputs[-1].usage is not None
    assert outputs[-1].usage.completion_tokens == 0


async def test_a_prompt_of_one_token_has_none(engine: Engine) -> None:
    ids = await engine.tokenize(PromptBuilder().scaffold("The").build())
    outputs = await run(engine, Prompt(token_ids=tuple(ids[:1])))

    assert outputs[1].prompt_logprobs == (None,)


async def test_nothing_is_left_behind_by_readers_that_leave(engine: Engine) -> None:
    prompt = PromptBuilder().scaffold(TEXT * 5).build()
    for max_tokens in (0, 8):
        request = GenerationRequest(
            id="t",
            prompt=prompt,
            sampling=SamplingParams(max_tokens=max_tokens),
            prompt_logprobs=1,
        )
        stream = engine.generate(request)
        await anext(stream)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.02)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await stream.aclose()
    async with asyncio.timeout(30):
        while (stats := engine.stats()).running or stats.kv_used:
            await asyncio.sleep(0.01)
