"""An answer that gives way to others is the same as one that does not, with the small model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve
from tiny_gguf import write_lora

from jarvis_core import (
    Constraint,
    Engine,
    EngineOutput,
    GenerationRequest,
    ModelSpec,
    PromptBuilder,
    SamplingParams,
    Share,
)
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

MANY = Share(name="many", others=9)
STORY = "The old man walked along the shore and thought about the ships of his youth. "
TOKENS = 60


@pytest.fixture(scope="module")
async def narrow(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    """An engine with one place: what is computed beside others differs by rounding."""
    red = write_lora(tmp_path_factory.mktemp("adapters") / "red.gguf", seed=1)
    spec = ModelSpec(
        name="m",
        source="smollm2",
        path="smollm2",
        context_length=1024,
        adapters={"red": str(red)},
    )
    settings = LlamaCppSettings(n_threads=1, n_batch=256, max_num_seqs=1)
    engine = await LLAMA_CPP.load(spec, settings)
    yield engine
    await engine.aclose()


def asked(text: str = STORY, *, tokens: int = TOKENS, **changes: Any) -> GenerationRequest:
    sampling = {k: v for k, v in changes.items() if hasattr(SamplingParams(), k)}
    others = {k: v for k, v in changes.items() if k not in sampling}
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    request = GenerationRequest(
        id="t", prompt=PromptBuilder().content(text).build(), sampling=evolve(params, **sampling)
    )
    return evolve(request, share=MANY, priority=1001, **others)


async def read(engine: Engine, request: GenerationRequest, begun: asyncio.Event) -> Any:
    """Text, ids, logprobs and finish reason of each answer."""
    found: list[EngineOutput] = []
    async with asyncio.timeout(120):
        async for output in engine.generate(request):
            found.append(output)
            if output.text:
                begun.set()
    begun.set()
    return [
        (
            "".join(o.text for o in found if o.index == index),
            [i for o in found if o.index == index for i in o.token_ids],
            [p for o in found if o.index == index for p in o.logprobs],
            [(o.finish_reason, o.stop_string) for o in found if o.index == index][-1],
        )
        for index in range(request.n)
    ]


async def uninterrupted(engine: Engine, request: GenerationRequest) -> Any:
    """What it says alone, with as much of its prompt in the cache as another time."""
    await read(engine, request, asyncio.Event())
    return await read(engine, request, asyncio.Event())


async def interrupted(engine: Engine, request: GenerationRequest, *, at_once: bool = False) -> Any:
    """What it says beside requests of others, each of which is answered before it ends."""
    begun = asyncio.Event()
    answer = asyncio.create_task(read(engine, request, begun))
    if not at_once:
        await begun.wait()
    for i in range(3):
        single = evolve(asked(f"Number {i}", tokens=2), share=Share(name="lone"), priority=0)
        await read(engine, single, asyncio.Event())
        assert not answer.done()
        await asyncio.sleep(0.02)
    return await answer


SCHEMA = '{"type": "array", "items": {"type": "integer"}, "minItems": 30}'


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 1.0, "seed": 7, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"logprobs": 2},
        {"constraint": Constraint(kind="json_schema", value=SCHEMA)},
        {"stop": ("never said",)},
        {"adapter": "red"},
    ],
    ids=["greedy", "seed", "penalties", "logprobs", "schema", "stop", "adapter"],
)
async def test_the_answer_is_the_same(narrow: Engine, changes: dict[str, Any]) -> None:
    request = asked(**changes)
    alone = await uninterrupted(narrow, request)

    assert await interrupted(narrow, request) == alone


async def test_each_of_several_answers_is_the_same(narrow: Engine) -> None:
    request = asked(n=2, temperature=1.0, seed=3)
    alone = await uninterrupted(narrow, request)

    assert await interrupted(narrow, request) == alone


async def test_a_stop_string_is_found_across_the_interruption(narrow: Engine) -> None:
    wild = {"temperature": 1.0, "seed": 11}
    [(text, *_)] = await uninterrupted(narrow, asked(**wild))
    stop = text[-12:-4]
    assert stop not in text[:-12]
    request = asked(stop=(stop,), **wild)
    alone = await uninterrupted(narrow, request)

    assert alone[0][-1] == ("stop", stop)
    assert await interrupted(narrow, request) == alone


@pytest.mark.parametrize("seed", [None, 5])
async def test_a_prompt_that_is_being_read_gives_way_too(narrow: Engine, seed: int | None) -> None:
    temperature = 0.0 if seed is None else 1.0
    request = asked(STORY * 25, tokens=20, seed=seed, temperature=temperature, cache_salt="1")
    alone = await read(narrow, request, asyncio.Event())
    again = evolve(request, cache_salt="2")  # nothing is known of it

    assert await interrupted(narrow, again, at_once=True) == alone
