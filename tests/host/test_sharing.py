"""An engine of which a request has some places only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from attrs import evolve

from jarvis_core import (
    ContextLengthExceeded,
    EngineOutput,
    GenerationRequest,
    ModelSpec,
    Prompt,
    RequestError,
    SamplingParams,
    Segment,
    SegmentKind,
    Usage,
)
from jarvis_core.host.sharing import SharedEngine
from jarvis_core.testing import FakeEngine

pytestmark = pytest.mark.anyio


class Watched(FakeEngine):
    """Notes what it is asked, and how much of that at the same time."""

    def __init__(self) -> None:
        super().__init__(ModelSpec(name="m", source="m", path="m"))
        self.asked: list[GenerationRequest] = []
        self.most = 0
        self.running = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with aclosing(super().generate(request)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            self.running -= 1


@pytest.fixture
def engine() -> Watched:
    return Watched()


def request(text: str, *, seed: int | None = None, **fields: int) -> GenerationRequest:
    segment = Segment(kind=SegmentKind.CONTENT, text=text)
    sampling = SamplingParams(seed=seed)
    return GenerationRequest(
        id="r", prompt=Prompt(segments=(segment,)), sampling=sampling, **fields
    )


async def outputs(engine: Watched, places: int, wanted: GenerationRequest) -> list[EngineOutput]:
    shared = SharedEngine(engine=engine, places=asyncio.Semaphore(places))
    return [output async for output in shared.generate(wanted)]


@pytest.mark.parametrize("places", [1, 2, 5])
async def test_all_answers_come_and_no_more_at_a_time_than_there_are_places(
    engine: Watched, places: int
) -> None:
    found = await outputs(engine, places, request("one two !delay=0.002", n=5, prompt_logprobs=1))

    accepted, *others = found
    assert accepted.prompt_tokens == 3
    assert all(output.prompt_tokens is None for output in others)
    texts = ["".join(o.text for o in found if o.index == index) for index in range(5)]
    assert texts == ["one two !delay=0.002"] * 5
    assert [o.index for o in found if o.finish_reason].count(4) == 1
    assert [output.usage is not None for output in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].usage == Usage(prompt_tokens=3, completion_tokens=15)
    assert sum(bool(output.prompt_logprobs) for output in found) == 1
    assert engine.most == places


async def test_of_the_prompt_only_what_the_first_answer_found_counts_as_cached() -> None:
    class Caches(Watched):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
            cached = 2 if self.asked else 0
            async for output in super().generate(request):
                yield evolve(
                    output, usage=output.usage and evolve(output.usage, cached_tokens=cached)
                )

    found = await outputs(Caches(), 1, request("one two", n=3))
    assert found[-1].usage == Usage(prompt_tokens=2, completion_tokens=6, cached_tokens=0)


async def test_each_answer_has_the_seed_that_it_has_among_others(engine: Watched) -> None:
    await outputs(engine, 1, request("one", n=3, seed=2**63 - 2))

    assert [(asked.n, asked.sampling.seed) for asked in engine.asked] == [
        (1, 2**63 - 2),
        (1, 2**63 - 1),
        (1, 0),
    ]


async def test_what_is_refused_is_refused_before_it_is_accepted(engine: Watched) -> None:
    with pytest.raises(RequestError, match="asked to refuse"):
        await outputs(engine, 1, request("!refuse", n=2))


async def test_without_a_place_a_prompt_that_does_not_fit_is_refused_at_once(
    engine: Watched,
) -> None:
    with pytest.raises(ContextLengthExceeded):
        await outputs(engine, 0, request("much " * 5000))
    assert not engine.asked


async def test_without_a_place_a_prompt_is_accepted_and_waits(engine: Watched) -> None:
    places = asyncio.Semaphore(0)
    shared = SharedEngine(engine=engine, places=places)
    async with aclosing(shared.generate(request("one two"))) as stream:
        assert (await anext(stream)).prompt_tokens == 2
        assert not engine.asked
        places.release()
        rest = [output async for output in stream]
    assert "".join(output.text for output in rest) == "one two"
    assert rest[-1].usage is not None


async def test_closing_it_ends_what_runs_and_what_waits(engine: Watched) -> None:
    shared = SharedEngine(engine=engine, places=asyncio.Semaphore(2))
    async with aclosing(shared.generate(request("!words=999 !delay=0.001", n=4))) as stream:
        for _ in range(6):
            await anext(stream)
        assert engine.running == 2
    assert engine.running == 0
    assert (engine.aborted, len(engine.asked)) == (2, 2)
