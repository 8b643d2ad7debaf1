"""Rows R-07 to R-09 of the reliability bar: how a server ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time

import httpx
import pytest
from served import Serve, content, gone

pytestmark = pytest.mark.anyio


async def test_running_stream_completes_idle_connections_close_and_new_requests_are_refused(
    serve: Serve,
) -> None:
    """R-07."""
    server = await serve()
    host = await server.host_pid()
    begun = asyncio.Event()
    stream = asyncio.create_task(server.stream("!words=50 !delay=0.03", begun=begun.set))
    await begun.wait()
    async with httpx.AsyncClient(base_url=server.url) as idle:
        await idle.get("/health/live")
        server.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        # Either the idle connection is closed and no new one accepted, or the answer is 503.
        with contextlib.suppress(httpx.TransportError):
            assert (await idle.get("/health/ready")).status_code == 503
        with contextlib.suppress(httpx.TransportError):
            refused = await idle.post("/v1/chat/completions", json=server.body("hi"))
            assert refused.status_code == 503
        raw = await stream
        assert content(raw) == "".join(f" word{i}" for i in range(50))
        assert raw.rstrip().endswith("data: [DONE]")
        assert await server.ended(10) == 0
    assert await gone(host, 1)


async def test_stream_that_outlasts_the_drain_ends_with_an_error(serve: Serve) -> None:
    """R-08."""
    server = await serve(JARVIS_DRAIN_TIMEOUT="0.5")
    host = await server.host_pid()
    begun = asyncio.Event()
    stream = asyncio.create_task(server.stream("!words=99999 !delay=0.02", begun=begun.set))
    await begun.wait()
    server.process.send_signal(signal.SIGTERM)
    raw = await stream
    assert "event: error" in raw
    assert "[DONE]" not in raw
    assert await server.ended(10) == 0
    assert await gone(host, 1)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_server_at_once_and_nobody_else(
    serve: Serve, first: signal.Signals
) -> None:
    """R-09."""
    neighbour = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        server = await serve()
        host = await server.host_pid()
        begun = asyncio.Event()
        stream = asyncio.create_task(server.stream("!words=99999 !delay=0.02", begun=begun.set))
        await begun.wait()
        server.process.send_signal(first)
        await asyncio.sleep(0.3)
        assert server.process.returncode is None
        server.process.send_signal(first)
        began = time.monotonic()
        await server.ended(5)
        assert time.monotonic() - began < 2.5
        with pytest.raises(httpx.TransportError):
            await stream
        assert await gone(host)
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()


async def test_signal_while_a_model_loads_ends_the_server_and_the_load(serve: Serve) -> None:
    server = await serve(
        '[models.m]\nsource = "fake/m"\nengine = "fake"\n[models.m.settings]\nload_delay = 60.0\n',
        wait=False,
    )
    async with asyncio.timeout(20):
        while "loading m" not in server.log:
            await asyncio.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    assert await server.ended(10) == 0
