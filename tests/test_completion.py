"""Text completions in the host: what is echoed, chosen and merged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import (
    Completion,
    CompletionRequest,
    ContextLengthExceeded,
    Delta,
    EngineError,
    EngineOutput,
    GenerationRequest,
    ModelSpec,
    RequestError,
    SamplingParams,
)
from jarvis_core.chat import Accepted, fold
from jarvis_core.completion import stream_completion
from jarvis_core.testing import FakeEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(ModelSpec(name="m", source="m", path="m"))


def asked(*prompts: Any, max_tokens: int | None = None, **fields: Any) -> CompletionRequest:
    sampling = SamplingParams(max_tokens=max_tokens)
    return CompletionRequest(model="m", prompts=prompts, sampling=sampling, **fields)


async def items(engine: FakeEngine, request: CompletionRequest) -> list[Accepted | Delta]:
    stream = stream_completion(request, engine=engine, request_id="r")
    return [item async for item in stream]


async def whole(engine: FakeEngine, request: CompletionRequest) -> Completion:
    return fold(item for item in await items(engine, request) if isinstance(item, Delta))


def texts(completion: Completion) -> list[str | None]:
    return [answer.content for answer in completion.answers]


async def test_a_text_is_accepted_once_and_continued(engine: FakeEngine) -> None:
    accepted, *deltas = await items(engine, asked("one two"))

    assert accepted == Accepted(prompt_tokens=2)
    assert fold(d for d in deltas if isinstance(d, Delta)).answers[0].content == "one two"
    assert sum(d.usage is not None for d in deltas if isinstance(d, Delta)) == 1


async def test_answers_of_several_prompts_are_numbered_prompt_by_prompt(
    engine: FakeEngine,
) -> None:
    completion = await whole(engine, asked("a !vary", "b c", n=2))

    assert [answer.index for answer in completion.answers] == [0, 1, 2, 3]
    assert texts(completion) == ["answer 0", "answer 1", "b c", "b c"]
    assert completion.usage.prompt_tokens == 4
    assert completion.usage.completion_tokens == 2 + 4


async def test_several_prompts_run_at_once(engine: FakeEngine) -> None:
    async with asyncio.timeout(5):
        completion = await whole(engine, asked(*[f"{i} !wait=0.5" for i in range(40)]))

    assert texts(completion) == [f"{i} !wait=0.5" for i in range(40)]


async def test_echo_puts_the_prompt_before_each_answer(engine: FakeEngine) -> None:
    assert (
        texts(await whole(engine, asked("a b. ", echo=True, n=2, max_tokens=1))) == ["a b. a"] * 2
    )


async def test_token_ids_are_echoed_as_text(engine: FakeEngine) -> None:
    ids = (engine._id("a"), engine._id(" b"))

    assert texts(await whole(engine, asked(ids, echo=True, max_tokens=0))) == ["a b"]


async def test_echo_with_logprobs_has_one_for_each_token_of_prompt_and_answer(
    engine: FakeEngine,
) -> None:
    completion = await whole(engine, asked("a b c", echo=True, logprobs=2, max_tokens=1))
    (answer,) = completion.answers

    assert answer.content == "a b ca"
    assert [p.token for p in answer.logprobs] == ["a", " b", " c", "a"]
    assert [p.logprob for p in answer.logprobs] == [0.0, -0.5, -0.5, -0.5]
    assert [len(p.top) for p in answer.logprobs] == [0, 2, 2, 2]


async def test_no_tokens_wanted_are_no_tokens_sent_or_counted(engine: FakeEngine) -> None:
    completion = await whole(engine, asked("a b c", logprobs=0, max_tokens=0))

    assert completion.answers[0].content is None
    assert completion.answers[0].finish_reason == "length"
    assert completion.answers[0].logprobs == ()
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 0)


async def test_best_of_sends_the_likeliest_first_and_counts_all(engine: FakeEngine) -> None:
    completion = await whole(engine, asked("!vary", n=2, best_of=4))

    assert texts(completion) == ["answer 3", "answer 2"]
    assert [answer.logprobs for answer in completion.answers] == [(), ()]
    assert completion.usage.completion_tokens == 4


async def test_where_no_tokens_are_wanted_none_have_to_come() -> None:
    class Notes(FakeEngine):
        asked: GenerationRequest

        async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
            self.asked = request
            async for output in super().generate(request):
                yield output

    engine = Notes(ModelSpec(name="m", source="m", path="m"))
    sampling = SamplingParams(max_tokens=0, min_tokens=3)
    await whole(engine, evolve(asked("a b c"), sampling=sampling))
    assert (engine.asked.sampling.max_tokens, engine.asked.sampling.min_tokens) == (1, 0)


async def test_the_best_have_the_usage_on_the_very_last_delta(engine: FakeEngine) -> None:
    _, *deltas = await items(engine, asked("!words=3 x", n=2, best_of=4))

    usages = [delta.usage for delta in deltas if isinstance(delta, Delta)]
    assert len(usages) > 4
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert usages[-1] is not None


async def test_best_of_with_echo_and_logprobs_ranks_the_answers_alone(engine: FakeEngine) -> None:
    completion = await whole(engine, asked("a !vary", best_of=3, echo=True, logprobs=1))

    assert texts(completion) == ["a !varyanswer 2"]
    assert [p.token for p in completion.answers[0].logprobs] == ["a", " !vary", "answer 2"]


async def test_one_refused_prompt_refuses_all_before_any_is_accepted(engine: FakeEngine) -> None:
    with pytest.raises(RequestError, match="asked to refuse"):
        await items(engine, asked("a !words=9999 !delay=9", "!refuse", "c"))
    assert engine.stats().running == 0


async def test_a_prompt_that_is_too_long_is_named(engine: FakeEngine) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await items(engine, asked("word " * 5000))
    assert caught.value.param == "prompt"


async def test_one_failing_prompt_ends_all(engine: FakeEngine) -> None:
    with pytest.raises(EngineError, match="asked to fail"):
        await items(engine, asked("!words=9999 !delay=9", "!error=1 !words=2"))
    assert engine.stats().running == 0


@pytest.mark.parametrize("prompts", [["!words=99 !delay=9 x"], ["!words=99", "!words=99 !delay=9"]])
async def test_closing_aborts_every_prompt(engine: FakeEngine, prompts: list[str]) -> None:
    stream = stream_completion(asked(*prompts), engine=engine, request_id="r")
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()

    assert engine.stats().running == 0
    assert engine.aborted == len(prompts)


class SendsNothing(FakeEngine):
    """Ends before it has begun."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        return
        yield


async def test_an_engine_that_sends_nothing_is_an_error() -> None:
    with pytest.raises(EngineError, match="unfinished"):
        await whole(SendsNothing(ModelSpec(name="m", source="m", path="m")), asked("one"))
