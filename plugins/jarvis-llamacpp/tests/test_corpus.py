"""Every request content that is known to end or to stall llama.cpp: an answer or a refusal instead.

Each of these aborts, corrupts or hangs a program that passes it on to llama.cpp unchecked.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import (
    Constraint,
    Engine,
    GenerationRequest,
    PromptBuilder,
    RequestError,
    SamplingParams,
)

pytestmark = pytest.mark.anyio

BIG = 2**31 - 1

PROMPTS = {
    "nothing": "",
    "more tokens than a step takes": "one two three " * 200,
    "one letter without end": "a" * 3000,
    "zero bytes": "a\0b\0",
    "control tokens": "<|im_end|><|im_start|>system\n<|endoftext|>",
    "a text of control tokens only": "<|im_start|>" * 100,
    "every kind of space": " \t\r\n\u00a0\u2003\u3000\u200b" * 50,
    "joined emoji": "👩‍👩‍👧‍👦" * 50,
    "combining marks": "a" + "\u0301" * 500,
    "right to left": "\u202e\u0627\u0644" * 50,
    "the largest code point": "\U0010ffff" * 20,
}

SAMPLING: dict[str, dict[str, Any]] = {
    "a bias that forbids everything": {"logit_bias": dict.fromkeys(range(49_152), -100.0)},
    "a bias outside the vocabulary": {"logit_bias": {49_152: 1.0}},
    "a negative token id": {"logit_bias": {-1: 1.0}},
    "a stop token outside the vocabulary": {"stop_token_ids": (BIG,)},
    "an infinite bias": {"logit_bias": {5: float("inf")}},
    "no number": {"temperature": float("nan")},
    "a temperature near zero": {"temperature": 1e-38},
    "an enormous temperature": {"temperature": 1e38},
    "more candidates than tokens": {"temperature": 1.0, "top_k": BIG},
    "no candidates": {"temperature": 1.0, "top_p": 1e-38, "min_p": 1.0, "typical_p": 1e-38},
    "a penalty window without end": {"extra": {"dry_multiplier": 1.0, "dry_penalty_last_n": BIG}},
    "a penalty base without bound": {"extra": {"dry_multiplier": 1e30, "dry_base": 1e30}},
    "an enormous penalty": {"repetition_penalty": 1e38},
    "a tiny penalty": {"repetition_penalty": 1e-38},
    "a large seed": {"temperature": 1.0, "seed": 2**63},
    "a negative seed": {"temperature": 1.0, "seed": -1},
    "more tokens at least than at most": {"min_tokens": 100},
    "an endless stop string": {"stop": ("x" * 100_000,)},
    "an empty stop string": {"stop": ("",)},
    "bad words without end": {"bad_words": ("word " * 5000,)},
}

CONSTRAINTS = {
    "nested groups": ("regex", "(" * 50_000 + "a" + ")" * 50_000),
    "nested repeats": ("regex", "((((a{0,100}){0,100}){0,100}){0,100})"),
    "many alternatives": ("choice", [f"word{i}" for i in range(20_000)]),
    "no alternative": ("choice", []),
    "a rule that calls itself": ("lark", "start: start"),
    "a rule without an end": ("lark", 'start: "a" start'),
    "a rule that does not exist": ("lark", "start: other"),
    "no grammar at all": ("lark", "(((("),
    "nested schemas": ("json_schema", '{"items":' * 3000 + "true" + "}" * 3000),
    "a schema that calls itself": ("json_schema", '{"$ref": "#"}'),
    "nothing allowed": ("json_schema", "false"),
    "an enormous length": ("json_schema", '{"type": "string", "minLength": 2000000000}'),
    "a pattern that looks ahead": ("json_schema", '{"type": "string", "pattern": "(?=a)b"}'),
    "zero bytes": ("regex", "a\0b"),
}


async def say(engine: Engine, text: str, **changes: Any) -> str:
    """The answer, or the name of the refusal."""
    constraint = changes.pop("constraint", None)
    sampling = evolve(SamplingParams(temperature=0.0, max_tokens=4), **changes)
    prompt = PromptBuilder().content(text).build()
    request = GenerationRequest(id="x", prompt=prompt, sampling=sampling, constraint=constraint)
    try:
        async with asyncio.timeout(60):
            return "".join([output.text async for output in engine.generate(request)])
    except RequestError as error:
        return type(error).__name__


async def still_answers(engine: Engine) -> None:
    # What follows depends on how much memory there was for the KV cache: logits do, by a little.
    answer = await say(engine, "One, two, three, four, five, six, seven,")
    assert answer.startswith(" eight,")
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)


@pytest.mark.parametrize("text", PROMPTS.values(), ids=PROMPTS)
async def test_prompts(engine: Engine, text: str) -> None:
    await say(engine, text)
    await still_answers(engine)


@pytest.mark.parametrize("changes", SAMPLING.values(), ids=SAMPLING)
async def test_sampling_params(engine: Engine, changes: dict[str, Any]) -> None:
    await say(engine, "The weather", **changes)
    await still_answers(engine)


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
async def test_constraints(engine: Engine, constraint: tuple[Any, Any]) -> None:
    kind, value = constraint
    text = value if isinstance(value, str) else json.dumps(value)
    await say(engine, "The weather", constraint=Constraint(kind=kind, value=text))
    await still_answers(engine)
