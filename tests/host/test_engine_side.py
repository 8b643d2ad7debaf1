"""The host's side of the socket pair, in this process."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jarvis_core.host.engine_side import EngineSide
from jarvis_core.host.protocol import Frame, FrameChannel, HostPlan, converter
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
