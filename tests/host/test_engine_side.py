"""The host's side of the socket pair, in this process."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jarvis_core.errors import EngineError
from jarvis_core.host.calls import SleepRequest
from jarvis_core.host.engine_side import EngineSide
from jarvis_core.host.protocol import Frame, FrameChannel, HostPlan, converter
from jarvis_core.structs import CompletionRequest, EngineOutput, GenerationRequest
from jarvis_core.testing import FakeEngine

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def loaded() -> AsyncIterator[tuple[FrameChannel, asyncio.Queue[Frame]]]:
    """A host's side that has loaded the fake engine: the server's end, and what comes there."""
    frames: asyncio.Queue[Frame] = asyncio.Queue()
    channel = FrameChannel(frames.put_nowait, lambda: None)
    ours, theirs = socket.socketpair()
    side = asyncio.create_task(EngineSide().run(theirs))
    try:
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        plan = HostPlan(name="m", source="fake", engine="fake")
        channel.send(["load", converter.unstructure(plan)])
        kind, *_ = await frames.get()
        assert kind == "ready"
        yield channel, frames
    finally:
        gc.unfreeze()
        channel.send(["shutdown"])
        await side
        channel.close()


async def test_what_loading_left_behind_is_never_collected_again() -> None:
    gc.unfreeze()
    async with loaded():
        assert gc.get_freeze_count() > 1000


async def test_stats_that_fail_are_logged_once_and_end_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stats(self: FakeEngine) -> None:
        raise RuntimeError("no such gauge")

    monkeypatch.setattr(FakeEngine, "stats", stats)
    async with loaded() as (channel, frames):
        for _ in range(2):
            channel.send(["ping"])
            assert await frames.get() == ["pong", None]
    assert caplog.text.count("RuntimeError: no such gauge") == 1


async def test_what_was_said_in_the_turn_of_an_error_comes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def generate(
        self: FakeEngine, request: GenerationRequest
    ) -> AsyncGenerator[EngineOutput, None]:
        yield EngineOutput(prompt_tokens=1)
        yield EngineOutput(text="half")
        raise EngineError("asked to fail")

    monkeypatch.setattr(FakeEngine, "generate", generate)
    asked = CompletionRequest(model="m", prompts=("one",))
    async with loaded() as (channel, frames):
        channel.send(["request", 1, "r", "completion", converter.unstructure(asked), None])
        came = [await frames.get() for _ in range(3)]
    assert [kind for kind, *_ in came] == ["accepted", "deltas", "error"]
    assert came[1] == ["deltas", [[1, "half"]]]


async def test_an_engine_sleeps_only_once_what_was_cut_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    async def generate(
        self: FakeEngine, request: GenerationRequest
    ) -> AsyncGenerator[EngineOutput, None]:
        try:
            yield EngineOutput(prompt_tokens=1)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)  # as a backend takes a step to abort
            happened.append("ended")

    async def sleep(self: FakeEngine, level: int) -> None:
        happened.append("sleeps")

    monkeypatch.setattr(FakeEngine, "generate", generate)
    monkeypatch.setattr(FakeEngine, "sleep", sleep)
    asked = CompletionRequest(model="m", prompts=("one",))
    async with loaded() as (channel, frames):
        channel.send(["request", 1, "r", "completion", converter.unstructure(asked), None])
        assert await frames.get() == ["accepted", 1, 1]
        channel.send(["cancel", 1])
        channel.send(["request", 2, "r", "sleep", converter.unstructure(SleepRequest()), None])
        kind, number, _ = await frames.get()
    assert (kind, number) == ("result", 2)
    assert happened == ["ended", "sleeps"]
