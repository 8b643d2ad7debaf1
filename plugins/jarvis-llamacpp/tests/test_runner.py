"""The engine thread with a context that computes nothing and fails on demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from jarvis_core import (
    EngineDied,
    EngineError,
    GenerationRequest,
    Prompt,
    SamplingParams,
    Share,
    TextStream,
    read_pieces,
)
from jarvis_llamacpp.batch import Batch
from jarvis_llamacpp.context import DecodeError, LlamaContext, StepInterrupted
from jarvis_llamacpp.job import Continuation, Job
from jarvis_llamacpp.reply import Reply
from jarvis_llamacpp.runner import Runner
from jarvis_llamacpp.sampler import Sampler
from jarvis_llamacpp.scheduler import ALIGNMENT
from jarvis_llamacpp.vocabulary import Vocabulary

pytestmark = pytest.mark.anyio

LETTERS = Vocabulary(pieces=tuple(bytes([i]) for i in range(128)), end_ids=frozenset({0}))
TEXTS = read_pieces(LETTERS.pieces)


class Context:
    """After each letter comes the next one of the alphabet.

    Attributes:
        faults: Called before each step, with the batch; raises, or returns False for a full cache.
        paused: While it is cleared, steps wait, until they are interrupted.
        entered: Set when a step begins.
    """

    def __init__(self) -> None:
        self.kv_size, self.n_batch, self.n_seqs = 4096, 256, 4
        self.least_copy = 16
        self.unified, self.store_bytes = True, 0
        self.interrupt = threading.Event()
        self.entered = threading.Event()
        self.no_logits = np.empty((0, LETTERS.size), np.float32)
        self.faults: Callable[[Batch], bool] = lambda batch: True
        self.paused = threading.Event()
        self.paused.set()
        self.steps = 0
        self.cleared = 0
        self.closed = False
        self._rows = self.no_logits

    def warm_up(self, token: int) -> None:
        pass

    def decode(self, batch: Batch) -> bool:
        self.entered.set()
        while not self.paused.wait(0.001):
            if self.interrupt.is_set():
                raise StepInterrupted
        self.steps += 1
        if not self.faults(batch):
            return False
        last = batch.token[: batch.size][batch.wanted[: batch.size] == 1]
        self._rows = np.zeros((len(last), LETTERS.size), np.float32)
        self._rows[np.arange(len(last)), (last + 1) % 128] = 10.0
        return True

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        return self._rows[:rows]

    def remove(self, seq: int, start: int) -> bool:
        return True

    def copy(self, source: int, target: int, end: int) -> bool:
        return True

    def save(self, seq: int) -> npt.NDArray[np.uint8] | None:
        return None

    def restore(self, seq: int, state: npt.NDArray[np.uint8]) -> bool:
        return False

    def clear(self) -> None:
        self.cleared += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
async def runner(context: Context) -> AsyncIterator[Runner]:
    runner = start(context)
    yield runner
    context.paused.set()
    await asyncio.to_thread(runner.close)


def start(context: Context) -> Runner:
    runner = Runner(
        lambda: cast(LlamaContext, context),
        LETTERS,
        context_length=512,
        prompt_budget=128,
        partial_reuse=True,
    )
    assert runner.ready.result(10) == 4096
    return runner


def job(
    prompt: str,
    *,
    count: int = 3,
    endless: bool = False,
    priority: int = 0,
    share: Share | None = None,
    **changes: Any,
) -> Job:
    sampling = SamplingParams(**{"temperature": 0.0, **changes})
    request = GenerationRequest(
        id="r", prompt=Prompt(), sampling=sampling, priority=priority, share=share
    )
    found = Job(request=request, reply=Reply(asyncio.get_running_loop()), open=1)
    ids = list(prompt.encode())
    tokens = np.zeros(len(ids) + count, np.int32)
    tokens[: len(ids)] = ids
    sampler = Sampler(sampling, prompt=ids, end_ids=())
    found.continuations.append(
        Continuation(
            job=found,
            index=0,
            tokens=tokens,
            prompt_length=len(ids),
            length=len(ids),
            share=share,
            most=len(tokens),
            end_ids=frozenset() if endless else LETTERS.end_ids,
            min_tokens=0,
            greedy=sampler.plain,
            sampler=sampler,
            text=TextStream(LETTERS.pieces, TEXTS, sampling.stop),
        )
    )
    return found


async def read(found: Job) -> str:
    async with asyncio.timeout(20):
        text = ""
        while not found.reply.finished:
            text += (await found.reply.take()).text
        return text


async def run(runner: Runner, *jobs: Job) -> list[str | BaseException]:
    for found in jobs:
        runner.submit(found)
    return await asyncio.gather(*map(read, jobs), return_exceptions=True)


async def test_requests_run_to_their_ends(runner: Runner) -> None:
    assert await run(runner, job("a"), job("k"), job("u")) == ["bcd", "lmn", "vwx"]


async def test_greedy_and_wild_requests_share_a_step(runner: Runner) -> None:
    wild = job("k", temperature=0.1)

    assert await run(runner, job("a"), wild, job("u")) == ["bcd", "lmn", "vwx"]


async def test_the_end_token_ends_a_request_without_text(runner: Runner) -> None:
    assert await run(runner, job("|", count=9)) == ["}~\x7f"]


async def test_a_step_is_handed_over_at_once(
    runner: Runner, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    handed: list[int] = []
    original = loop.call_soon_threadsafe

    def counting(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        if args and isinstance(args[0], list):
            handed.append(len(args[0]))
        return original(callback, *args, **kwargs)

    context.paused.clear()
    jobs = [job(letter, count=5) for letter in "aku"]
    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    for found in jobs:
        runner.submit(found)
    context.paused.set()
    await asyncio.gather(*map(read, jobs))
    monkeypatch.undo()

    assert sum(handed) == 15
    assert max(handed) == 3
    assert len(handed) <= 6


async def test_a_step_that_fails_fails_what_runs_and_nothing_else(
    runner: Runner, context: Context
) -> None:
    def fail_once(batch: Batch) -> bool:
        context.faults = lambda batch: True
        raise DecodeError("llama_decode returned -3")

    context.faults = fail_once
    (failed,) = await run(runner, job("a"))

    assert isinstance(failed, EngineError)
    assert not isinstance(failed, EngineDied)
    assert "-3" not in failed.message
    assert context.cleared == 1
    assert await run(runner, job("a")) == ["bcd"]
    assert runner.stats().kv_used == 0


async def test_waiting_requests_survive_a_failed_step(runner: Runner, context: Context) -> None:
    context.paused.clear()
    jobs = [job(letter) for letter in "abcdef"]
    for found in jobs:
        runner.submit(found)

    def fail_once(batch: Batch) -> bool:
        if batch.size < 4:
            return True
        context.faults = lambda batch: True
        raise DecodeError("broken")

    context.faults = fail_once
    context.paused.set()
    answers = await asyncio.gather(*map(read, jobs), return_exceptions=True)

    assert [str(answer) for answer in answers if not isinstance(answer, BaseException)][-1] == "ghi"
    assert sum(isinstance(answer, EngineError) for answer in answers) == 4


async def test_an_engine_that_goes_on_failing_dies(runner: Runner, context: Context) -> None:
    def fail(batch: Batch) -> bool:
        raise DecodeError("broken")

    context.faults = fail
    answers = [(await run(runner, job("a")))[0] for _ in range(3)]

    assert [type(answer) for answer in answers] == [EngineError, EngineError, EngineDied]
    with pytest.raises(EngineDied, match="failed 3 times"):
        runner.submit(job("a"))
    with pytest.raises(EngineDied):
        runner.check()


async def test_a_full_cache_is_tried_again_with_less(runner: Runner, context: Context) -> None:
    context.faults = lambda batch: batch.size < 3
    answers = await run(runner, job("a"), job("k"), job("u"))

    assert answers == ["bcd", "lmn", "vwx"]


async def test_a_cache_with_no_room_for_one_fails_that_one(
    runner: Runner, context: Context
) -> None:
    context.faults = lambda batch: False
    (failed,) = await run(runner, job("a"))

    assert isinstance(failed, EngineError)
    assert "no room" in failed.message


async def test_logits_that_are_no_numbers_fail_their_request_only(
    runner: Runner, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = context.logits

    def broken(rows: int) -> npt.NDArray[np.float32]:
        found = original(rows)
        found[found[:, ord("l")] > 0] = np.nan
        return found

    monkeypatch.setattr(context, "logits", broken)
    first, second = await run(runner, job("a"), job("k"))

    assert first == "bcd"
    assert isinstance(second, EngineError)
    assert runner.stats().running == 0


async def test_a_bug_in_choosing_fails_its_request_only(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = job("k", temperature=1.0)

    def bug(row: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(wild.continuations[0].sampler, "choose", bug)
    first, second = await run(runner, job("a"), wild)

    assert first == "bcd"
    assert isinstance(second, EngineError)


async def test_an_aborted_request_gets_nothing_more(runner: Runner, context: Context) -> None:
    context.paused.clear()
    gone, kept = job("a", count=400, endless=True), job("k")
    runner.submit(gone)
    runner.submit(kept)
    runner.abort(gone)
    context.paused.set()

    assert await read(kept) == "lmn"
    async with asyncio.timeout(10):
        while runner.stats().running:
            await asyncio.sleep(0.001)
    assert context.steps < 50


async def test_the_step_that_reads_an_aborted_prompt_is_stopped(
    context: Context, runner: Runner
) -> None:
    context.paused.clear()
    gone = job("abc")
    runner.submit(gone)
    await asyncio.to_thread(context.entered.wait, 10)
    runner.abort(gone)
    while runner.stats().running:
        await asyncio.sleep(0.001)

    assert (context.steps, context.cleared) == (0, 0)
    context.paused.set()
    other = job("abc")
    runner.submit(other)
    assert await read(other) == "def"


async def test_a_step_that_others_need_is_not_stopped(context: Context, runner: Runner) -> None:
    both = threading.Event()
    stopped: list[bool] = []

    def faults(batch: Batch) -> bool:
        both.wait(10)
        if batch.size > 6:  # the step that reads both
            runner.abort(gone)
            stopped.append(context.interrupt.is_set())
        return True

    context.faults = faults
    first, gone, other = job("x", count=9), job("abc"), job("klm")
    for each in (first, gone, other):
        runner.submit(each)
    both.set()

    assert await read(other) == "nop"
    assert stopped == [False]


async def test_the_step_that_reads_prompts_is_stopped_for_a_more_urgent_one(
    context: Context, runner: Runner
) -> None:
    read_at_once: list[int] = []
    context.faults = lambda batch: not read_at_once.append(batch.size)
    context.paused.clear()
    patient, urgent = job("abc" * 40, priority=9), job("abc")
    runner.submit(patient)
    await asyncio.to_thread(context.entered.wait, 10)
    context.entered.clear()
    runner.submit(urgent)
    await asyncio.to_thread(context.entered.wait, 10)  # the step after that
    context.paused.set()

    assert await asyncio.gather(read(urgent), read(patient)) == ["def", "def"]
    assert read_at_once[0] <= 3 + ALIGNMENT


@pytest.mark.parametrize(
    ("reading", "priority", "next_priority"),
    [
        ("abc" * 40, 9, 9),  # not more urgent
        ("abc" * 40, 0, 9),
    ],
)
async def test_other_steps_are_not_stopped(
    context: Context, runner: Runner, reading: str, priority: int, next_priority: int
) -> None:
    context.paused.clear()
    first, other = job(reading, priority=priority), job("abc", priority=next_priority)
    runner.submit(first)
    await asyncio.to_thread(context.entered.wait, 10)
    runner.submit(other)

    assert not context.interrupt.is_set()
    context.paused.set()
    assert await asyncio.gather(read(first), read(other)) == ["def", "def"]


async def test_a_prompt_is_read_on_in_pieces_after_each_stop(
    context: Context, runner: Runner
) -> None:
    urgent = [job(letter * 3, priority=8 - at) for at, letter in enumerate("klm")]
    waiting = iter(urgent)
    steps: list[tuple[int, bool]] = []

    def faults(batch: Batch) -> bool:
        """In each step that reads prompts a more urgent request comes."""
        if batch.size > 6 and (new := next(waiting, None)) is not None:
            runner.submit(new)
        steps.append((batch.size, stopped := context.interrupt.is_set()))
        if stopped:
            raise StepInterrupted
        return True

    context.faults = faults
    patient = job("abc" * 100, priority=9)
    runner.submit(patient)

    assert await read(patient) == "def"
    assert await asyncio.gather(*map(read, urgent)) == ["lmn", "mno", "nop"]
    assert [stopped for _, stopped in steps[:6]] == [True, False] * 3
    assert max(size for size, _ in steps[1:]) < 2 * ALIGNMENT + len(urgent)


async def test_nothing_is_stopped_for_who_has_no_place(context: Context, runner: Runner) -> None:
    stopped: list[bool] = []

    def faults(batch: Batch) -> bool:
        if batch.size > ALIGNMENT and not stopped:
            runner.submit(urgent)
            stopped.append(context.interrupt.is_set())
        return True

    context.faults = faults
    context.paused.clear()
    opener, urgent = job("x", count=1), job("abc")
    jobs = [opener, *(job(letter * 120, priority=9) for letter in "abcd")]
    for each in jobs:
        runner.submit(each)
    context.paused.set()

    assert await asyncio.gather(*map(read, jobs)) == ["y", "bcd", "cde", "def", "efg"]
    assert (await read(urgent), stopped) == ("def", [False])


async def test_steps_of_a_crowd_are_stopped_for_each_of_others_though_all_places_are_taken(
    context: Context, runner: Runner
) -> None:
    crowd, lone = Share(name="crowd", others=9), [Share(name=f"{i}") for i in range(3)]
    singles = [job(letter * 3, share=share) for letter, share in zip("xyz", lone, strict=True)]
    waiting = iter(singles)
    stopped = 0

    def faults(batch: Batch) -> bool:
        nonlocal stopped
        if batch.size > 6 and (new := next(waiting, None)) is not None:
            runner.submit(new)
        if context.interrupt.is_set():
            stopped += 1
            raise StepInterrupted
        return True

    context.paused.clear()
    context.faults = faults
    many = [job(letter * 120, priority=9, share=crowd) for letter in "abcd"]
    for each in many:
        runner.submit(each)
    context.paused.set()

    assert await asyncio.gather(*map(read, many)) == ["bcd", "cde", "def", "efg"]
    assert await asyncio.gather(*map(read, singles)) == ["yz{", "z{|", "{|}"]
    assert stopped == 3


async def test_aborting_twice_or_after_the_end_does_nothing(runner: Runner) -> None:
    done = job("a")
    assert await run(runner, done) == ["bcd"]
    runner.abort(done)
    runner.abort(done)

    assert await run(runner, job("k")) == ["lmn"]


async def test_conversations_are_stored_once_nobody_is_expected(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = asyncio.Event()
    loop = asyncio.get_running_loop()

    def store_ahead(cache: object) -> bool:
        loop.call_soon_threadsafe(stored.set)
        return False

    monkeypatch.setattr("jarvis_llamacpp.runner._REST", 600.0)
    await run(runner, job("a"))
    monkeypatch.setattr("jarvis_llamacpp.cache.PrefixCache.store_ahead", store_ahead)
    await run(runner, job("k"))
    await run(runner, job("u"))
    assert not stored.is_set(), "who asks one thing after the other waits for nothing"

    monkeypatch.setattr("jarvis_llamacpp.runner._REST", 0.01)
    await run(runner, job("a"))
    await asyncio.wait_for(stored.wait(), 10)


async def test_prefixes_are_forgotten_between_two_steps(runner: Runner, context: Context) -> None:
    prompt = "abcdefghijklmnopqrstuvwxyz"
    first, again, after = job(prompt), job(prompt), job(prompt)
    await run(runner, first)
    await run(runner, again)
    context.faults = slowly
    running = job("A", count=300, endless=True)
    runner.submit(running)
    await running.reply.take()
    await asyncio.wrap_future(runner.forget_prefixes())

    assert not running.reply.finished
    await run(runner, after)
    assert [f.continuations[0].cached for f in (first, again, after)] == [0, 25, 0]
    runner.abort(running)


async def test_nobody_waits_for_an_engine_that_has_ended_to_forget(context: Context) -> None:
    runner = start(context)
    given_up = runner.forget_prefixes()
    given_up.cancel()
    assert await run(runner, job("a")) == ["bcd"]
    context.paused.clear()
    running = job("a")
    runner.submit(running)
    await asyncio.to_thread(context.entered.wait, 10)
    waiting = asyncio.wrap_future(runner.forget_prefixes())
    closing = asyncio.create_task(asyncio.to_thread(runner.close))
    await asyncio.gather(closing, read(running), waiting, return_exceptions=True)

    assert waiting.done()
    with pytest.raises(EngineDied):
        runner.forget_prefixes()


def slowly(batch: Batch) -> bool:
    time.sleep(0.005)
    return True


async def test_closing_fails_what_runs_and_frees_the_context(context: Context) -> None:
    runner = start(context)
    context.faults = slowly
    running = job("a", count=500, endless=True)
    runner.submit(running)
    await running.reply.take()
    await asyncio.to_thread(runner.close)
    answer = (await asyncio.gather(read(running), return_exceptions=True))[0]

    assert isinstance(answer, EngineDied)
    assert context.closed
    with pytest.raises(EngineDied, match="closed"):
        runner.submit(job("a"))


def test_a_context_that_cannot_be_made_is_told_to_who_waits() -> None:
    def fail() -> LlamaContext:
        raise MemoryError("no room")

    runner = Runner(fail, LETTERS, context_length=512, prompt_budget=128, partial_reuse=True)

    with pytest.raises(MemoryError, match="no room"):
        runner.ready.result(10)
    with pytest.raises(EngineDied):
        runner.check()


async def test_a_reader_whose_loop_is_gone_does_not_matter(runner: Runner) -> None:
    lost = job("a")
    lost.reply.loop = asyncio.new_event_loop()
    lost.reply.loop.close()
    runner.submit(lost)

    assert await run(runner, job("k")) == ["lmn"]
