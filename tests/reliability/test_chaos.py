"""Rows R-01 to R-05, R-10, R-11 and R-16 of the reliability bar against a whole server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from served import Serve, Server, content, gone, toml, until

pytestmark = pytest.mark.anyio


async def begin_streams(
    server: Server, count: int, text: str, model: str
) -> list[asyncio.Task[str]]:
    """Streams that have each sent some content."""
    begun = 0

    def one_more() -> None:
        nonlocal begun
        begun += 1

    tasks = [asyncio.create_task(server.stream(text, model, one_more)) for _ in range(count)]
    async with asyncio.timeout(10):
        while begun < count:
            await asyncio.sleep(0.01)
    return tasks


def broke_off(raw: str) -> bool:
    """Whether a stream ended with an error event and did not claim to be whole."""
    return "event: error" in raw and "[DONE]" not in raw


async def test_killed_host_costs_its_model_a_reload_and_others_nothing(serve: Serve) -> None:
    """R-01."""
    server = await serve(toml(a="", b=""))
    host = await server.host_pid("a")
    hit = await begin_streams(server, 8, "!words=9999 !delay=0.02", "a")
    others = await begin_streams(server, 4, "!words=60 !delay=0.02", "b")
    os.kill(host, signal.SIGKILL)
    killed = time.monotonic()

    async def not_ready() -> bool:
        return await server.ready_status() == 503

    await until(not_ready, 3.0)
    for raw in await asyncio.gather(*hit):
        assert broke_off(raw)
    assert time.monotonic() - killed < 4.0
    expected = "".join(f" word{i}" for i in range(60))
    for raw in await asyncio.gather(*others):
        assert content(raw) == expected
        assert raw.rstrip().endswith("data: [DONE]")
    assert await server.say("again", "a") == "again"
    assert await server.ready_status() == 200
    assert await server.host_pid("a") != host
    assert server.process.returncode is None
    await server.conserved(ok=7, failed=8)


async def test_abort_in_the_backend_is_survived_and_its_line_is_in_the_log(serve: Serve) -> None:
    """R-02."""
    server = await serve()
    raw = await server.stream("!abort=3 !words=9 !delay=0.01")
    assert content(raw) == " word0 word1 word2"
    assert broke_off(raw)
    assert await server.say("again") == "again"
    assert "ASSERT(fake) failed" in server.log
    assert "Traceback" not in server.log
    await server.conserved(ok=1, failed=1)


async def test_stopped_host_is_unready_then_killed_and_its_clients_told(serve: Serve) -> None:
    """R-03."""
    server = await serve(JARVIS_HEARTBEAT_STALE="1", JARVIS_HEARTBEAT_TIMEOUT="3")
    host = await server.host_pid()
    whole = [asyncio.create_task(server.post("!wait=60")) for _ in range(2)]
    streams = await begin_streams(server, 2, "!words=9999 !delay=0.02", "m")

    async def accepted() -> bool:
        return await server.running() == (2, 2)

    await until(accepted, 10.0)
    os.kill(host, signal.SIGSTOP)

    async def not_ready() -> bool:
        return await server.ready_status() == 503

    await until(not_ready, 5.0)
    assert (await server.post("hi")).status_code == 503
    assert await gone(host, 10)
    for response in await asyncio.gather(*whole):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_died"
        assert "retry-after" in response.headers
    for raw in await asyncio.gather(*streams):
        assert broke_off(raw)
    assert await server.say("again") == "again"
    await server.conserved(ok=2, failed=4)


async def test_killed_server_leaves_no_host_and_its_port_can_be_taken_at_once(
    serve: Serve,
) -> None:
    """R-04."""
    server = await serve()
    host = await server.host_pid()
    server.process.kill()
    await server.process.wait()
    assert await gone(host, 5)
    again = await serve(JARVIS_PORT=server.url.rpartition(":")[2])
    assert await again.say("hello") == "hello"


async def test_host_that_dies_at_start_fails_its_model_only_until_an_admin_retries(
    serve: Serve, tmp_path: Path
) -> None:
    """R-05."""
    flag = tmp_path / "flag"
    flag.touch()
    server = await serve(toml(bad=f'load_fault = "die"\nfault_file = "{flag}"', good=""))
    assert await server.state("bad") == "failed"
    assert await server.ready_status() == 503
    assert (await server.post("hi", "bad")).status_code == 503
    assert await server.say("unharmed", "good") == "unharmed"
    flag.unlink()
    retried = await server.client.post("/v1/models/bad/load")
    assert (retried.status_code, retried.json()["state"]) == (200, "ready")
    assert await server.say("at last", "bad") == "at last"
    assert await server.ready_status() == 200


async def test_clients_that_leave_are_aborted_and_leave_nothing_behind(serve: Serve) -> None:
    """R-10."""
    server = await serve()
    assert await server.say("warm") == "warm"
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for _ in range(100):
        async with server.client.stream(
            "POST",
            "/v1/chat/completions",
            json=server.body("!words=2000 !delay=0.005", stream=True),
        ) as response:
            seen = 0
            async for line in response.aiter_lines():
                seen += '"content"' in line
                if seen == 3:
                    break

    async def idle() -> bool:
        return await server.running() == (0, 0)

    await until(idle, 5.0)
    await server.client.aclose()
    server.client = httpx.AsyncClient(base_url=server.url, timeout=30)
    assert await server.say("still here") == "still here"
    assert len(os.listdir(f"/proc/{server.pid}/fd")) <= before + 2
    await server.conserved(ok=2, aborted=100)


async def test_clients_that_leave_before_the_first_token_are_aborted(serve: Serve) -> None:
    """R-11."""
    server = await serve()
    for _ in range(10):
        with pytest.raises(httpx.TimeoutException):
            await server.client.post(
                "/v1/chat/completions", json=server.body("!wait=60"), timeout=0.05
            )

    async def idle() -> bool:
        return await server.running() == (0, 0)

    await until(idle, 5.0)


@pytest.mark.parametrize(
    ("fault", "status", "text"), [("missing", 409, "no such file"), ("memory", 507, "9 GB")]
)
async def test_model_that_cannot_be_loaded_is_refused_and_harms_no_other(
    serve: Serve, fault: str, status: int, text: str
) -> None:
    """R-16."""
    server = await serve(toml(bad=f'load_fault = "{fault}"', good=""))
    busy = asyncio.create_task(server.stream("!words=50 !delay=0.02", "good"))
    for response in (
        await server.client.post("/v1/models/bad/load"),
        await server.post("hi", "bad"),
    ):
        assert response.status_code == status
        assert text in response.json()["error"]["message"]
    assert "data: [DONE]" in await busy
