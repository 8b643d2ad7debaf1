"""The host's side of the socket pair, in this process."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from jarvis_core.host.engine_side import EngineSide
from jarvis_core.host.protocol import Frame, FrameChannel, HostPlan, converter

pytestmark = pytest.mark.anyio


async def test_what_loading_left_behind_is_never_collected_again() -> None:
    frames: asyncio.Queue[Frame] = asyncio.Queue()
    channel = FrameChannel(frames.put_nowait, lambda: None)
    ours, theirs = socket.socketpair()
    gc.unfreeze()
    side = asyncio.create_task(EngineSide().run(theirs))
    try:
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        plan = HostPlan(name="m", source="fake", engine="fake")
        channel.send(["load", converter.unstructure(plan)])
        kind, *_ = await frames.get()

        assert kind == "ready"
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        channel.send(["shutdown"])
        await side
        channel.close()
