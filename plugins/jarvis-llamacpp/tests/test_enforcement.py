"""Constrained text of a real model beside other work."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import (
    Constraint,
    Engine,
    EngineError,
    EngineOutput,
    GenerationRequest,
    JarvisError,
    ModelSpec,
    PromptBuilder,
    RequestError,
    SamplingParams,
)
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

PROMPT = PromptBuilder().scaffold("The capital of France is").build()


def ask(constraint: Constraint | None = None, **changes: Any) -> GenerationRequest:
    request = {k: changes.pop(k) for k in ("logprobs", "n") if k in changes}
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 40, **changes})
    made = GenerationRequest(id="t", prompt=PROMPT, sampling=sampling, constraint=constraint)
    return evolve(made, **request)


async def run(engine: Engine, request: GenerationRequest) -> list[EngineOutput]:
    async with asyncio.timeout(60):
        return [output async for output in engine.generate(request)]


def text(outputs: list[EngineOutput]) -> str:
    return "".join(output.text for output in outputs)


async def test_logprobs_are_those_of_the_model_not_of_the_constraint(engine: Engine) -> None:
    free = await run(engine, ask(max_tokens=1, logprobs=3))
    choice = Constraint(kind="choice", value='["zebra"]')
    bound = await run(engine, ask(choice, logprobs=3))
    (first,) = (o.logprobs[0] for o in free if o.logprobs)
    forced = next(o.logprobs[0] for o in bound if o.logprobs)

    assert text(bound) == "zebra"
    assert [t.token for t in forced.top] == [t.token for t in first.top]
    assert [t.logprob for t in forced.top] == pytest.approx([t.logprob for t in first.top], abs=0.1)
    assert forced.token.startswith("z")
    assert forced.logprob < first.top[-1].logprob


async def test_a_stop_string_ends_constrained_text(engine: Engine) -> None:
    outputs = await run(engine, ask(Constraint(kind="regex", value="aaXbb"), stop=("X",)))

    assert text(outputs) == "aa"
    assert outputs[-1].finish_reason == "stop"


async def test_a_stop_token_that_alone_may_come_comes_before_min_tokens(engine: Engine) -> None:
    (token_id,) = await engine.tokenize(PromptBuilder().content("a").build())
    request = ask(
        Constraint(kind="lark", value=f'start: <[{token_id}]> "bc"'),
        min_tokens=9,
        stop_token_ids=(token_id,),
    )
    outputs = await run(engine, request)

    assert outputs[-1].finish_reason == "stop"
    assert outputs[-1].usage is not None
    assert outputs[-1].usage.completion_tokens == 1


async def test_penalties_and_filters_do_not_break_a_constraint(engine: Engine) -> None:
    wild = {"temperature": 2.0, "top_k": 5, "min_p": 0.2, "top_p": 0.5}
    hard = {"repetition_penalty": 5.0, "frequency_penalty": 2.0}
    for params in (wild, hard, {**wild, **hard}):
        outputs = await run(
            engine, ask(Constraint(kind="regex", value=r"(ha){12}!"), max_tokens=60, **params)
        )
        assert text(outputs) == "ha" * 12 + "!"


async def test_a_constraint_is_checked_even_if_no_token_is_wanted(engine: Engine) -> None:
    with pytest.raises(RequestError):
        await run(engine, ask(Constraint(kind="regex", value="("), max_tokens=0))


BOMBS = {
    "nested repeats": ("regex", "(((a{100}){100}){100}){100}"),
    "nested groups": ("regex", "(" * 30_000 + "a" + ")" * 30_000),
    "unicode": ("regex", r"(\p{L}|\w|\d){0,3000}"),
    "alternatives": ("regex", "|".join(f"w{i}x*" for i in range(5000))),
    "a long constant": ("json_schema", json.dumps({"const": "x " * 30_000})),
    "optional keys": (
        "json_schema",
        json.dumps({"properties": {f"p{i}": {"type": "string"} for i in range(1500)}}),
    ),
    "arrays": (
        "json_schema",
        '{"type":"array","minItems":1000,"items":{"type":"array","minItems":100000}}',
    ),
    "itself": ("json_schema", '{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}'),
    "ambiguity": ("lark", 'start: a\na: a a a | /[a-z]/ | a b\nb: a | b b | ""'),
    "many rules": (
        "lark",
        "start: "
        + " | ".join(f"r{i}" for i in range(600))
        + "\n"
        + "\n".join(f'r{i}: "a" r{i * 7 % 600} | "b"' for i in range(600)),
    ),
    "complements": ("lark", "start: A\nA: ~(/(.*a.{15})/ & ~/.*b.{15}/)"),
}


async def test_bombs_are_refused_or_bounded_and_others_go_on(engine: Engine) -> None:
    """S-07."""
    gaps: list[float] = []
    going = asyncio.Event()

    async def neighbour() -> None:
        last = 0.0
        async for output in engine.generate(ask(ignore_eos=True, max_tokens=900)):
            if output.text:
                if last:
                    gaps.append(time.perf_counter() - last)
                last = time.perf_counter()
                going.set()

    async def throw(kind: Any, value: str) -> str | JarvisError:
        try:
            request = ask(Constraint(kind=kind, value=value), temperature=1.5, max_tokens=8, seed=1)
            return text(await run(engine, request))
        except JarvisError as error:
            return error

    other = asyncio.create_task(neighbour())
    await going.wait()
    answers = {name: await throw(*bomb) for name, bomb in BOMBS.items()}
    still_there = not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)

    for name, answer in answers.items():
        assert isinstance(answer, str | RequestError | EngineError), name
        if isinstance(answer, EngineError):
            assert "constraint became too complex" in answer.message, name
    assert isinstance(answers["nested groups"], RequestError)
    assert isinstance(answers["itself"], RequestError)
    assert still_there
    assert len(gaps) > 10
    assert max(gaps) < 2.0  # far above what a quiet machine shows


@pytest.fixture
async def narrow(anyio_backend: str) -> AsyncIterator[Engine]:
    """Room for two of four texts at a time."""
    spec = ModelSpec(name="narrow", source="smollm2", path="smollm2", context_length=128)
    settings = LlamaCppSettings(n_threads=1, kv_size=128, n_batch=64, max_num_seqs=4)
    engine = await LLAMA_CPP.load(spec, settings)
    yield engine
    await engine.aclose()


async def test_text_that_made_room_for_others_goes_on_under_its_constraint(
    narrow: Engine,
) -> None:
    pattern = r"(0123456789 ){5}end"
    request = ask(Constraint(kind="regex", value=pattern), max_tokens=90)
    answers = await asyncio.gather(*(run(narrow, request) for _ in range(4)))

    for outputs in answers:
        assert re.fullmatch(pattern, text(outputs))
        assert outputs[-1].finish_reason == "stop"
