"""Sampling params that only show in text, with the real model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jarvis_core import Engine, GenerationRequest, PromptBuilder, RequestError, SamplingParams

pytestmark = pytest.mark.anyio


async def say(engine: Engine, text: str, **params: Any) -> str:
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 24, **params})
    prompt = PromptBuilder().scaffold(text).build()
    request = GenerationRequest(id="t", prompt=prompt, sampling=sampling)
    async with asyncio.timeout(60):
        return "".join([output.text async for output in engine.generate(request)])


async def test_bad_words_do_not_come_and_others_do(engine: Engine) -> None:
    counting = "one two three four five six seven eight one two three four"
    free = await say(engine, counting, max_tokens=6)
    assert " five six" in free
    banned = await say(engine, counting, max_tokens=6, bad_words=("five",))

    assert "five" not in banned
    assert banned


async def test_a_bad_word_that_is_empty_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="bad_words"):
        await say(engine, "one two", bad_words=("",))


async def test_dry_ends_a_repetition(engine: Engine) -> None:
    chorus = "red green blue red green blue red green blue red green blue red green"
    free = await say(engine, chorus, max_tokens=8)
    assert free.startswith(" blue")
    dry = {"dry_multiplier": 2.0, "dry_base": 2.0}

    assert not (await say(engine, chorus, max_tokens=8, extra=dry)).startswith(" blue")


@pytest.mark.parametrize(
    "params",
    [
        {"typical_p": 0.5},
        {"typical_p": 0.9, "top_k": 40, "top_p": 0.9, "min_p": 0.01},
        {"extra": {"xtc_probability": 1.0, "xtc_threshold": 0.05}},
        {"extra": {"mirostat": 1}},
        {"extra": {"mirostat": 2, "mirostat_tau": 3.0, "xtc_probability": 0.5}},
    ],
)
async def test_filtered_sampling_is_repeatable_by_seed(
    engine: Engine, params: dict[str, Any]
) -> None:
    wild = {"temperature": 1.2, "seed": 11, "max_tokens": 12, **params}
    await say(engine, "Once upon a time", **wild)
    first, second = [await say(engine, "Once upon a time", **wild) for _ in range(2)]

    assert first == second
    assert first


async def test_excluding_top_choices_changes_what_is_sure(engine: Engine) -> None:
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 1e-4}
    text = "The capital of France is"
    sure = await say(engine, text, temperature=1.0, top_k=8, top_p=0.01, max_tokens=1)
    other = await say(engine, text, temperature=1.0, top_k=8, extra=xtc, max_tokens=1)

    assert other != sure


async def test_top_choices_of_greedy_text_stay(engine: Engine) -> None:
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 1e-4, "mirostat": 2}

    assert await say(engine, "1 2 3 4 5 6", extra=xtc) == await say(engine, "1 2 3 4 5 6")
