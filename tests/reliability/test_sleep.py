"""Sleeping models as an operator sees them: states, readiness, metrics, the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import httpx
import pytest
from served import Serve, Server, gone, toml, until

pytestmark = pytest.mark.anyio


async def state(server: Server) -> str:
    return str((await server.client.get("/v1/models/m")).json()["state"])


async def test_a_sleeping_model_is_shown_and_woken_by_a_request(serve: Serve) -> None:
    server = await serve()
    host = await server.host_pid()
    asleep = await server.client.post("/v1/models/m/sleep")

    assert (asleep.status_code, asleep.json()["state"]) == (200, "asleep")
    assert (await server.client.get("/health/ready")).status_code == 200
    report = (await server.client.get("/health")).json()
    assert report["models"]["m"]["state"] == "asleep"
    metrics = (await server.client.get("/metrics")).text
    assert 'jarvis_model_state{engine="fake",model="m",state="asleep"} 1.0' in metrics
    assert await server.host_pid() == host
    assert await state(server) == "ready"
    await server.conserved(ok=2)


async def test_what_cannot_be_is_refused_with_the_reason(serve: Serve) -> None:
    server = await serve(toml(m='tasks = ["generate"]'))
    refused = await server.client.post("/v1/models/m/sleep", json={"level": 2})
    assert refused.status_code == 400
    assert "model 'm' on engine 'fake' does not sleep" in refused.json()["error"]["message"]

    await server.client.post("/v1/models/m/unload")
    conflict = await server.client.post("/v1/models/m/reset_prefix_cache")
    assert conflict.status_code == 409
    assert "is cold: only a ready model has a prefix cache" in conflict.text


@pytest.mark.parametrize("action", ["sleep", "unload"])
async def test_what_was_ordered_is_done_though_the_client_has_left(
    serve: Serve, action: str
) -> None:
    server = await serve()
    begun = asyncio.Event()
    running = asyncio.create_task(server.stream("!words=40 !delay=0.03", begun=begun.set))
    await begun.wait()
    with contextlib.suppress(httpx.ReadTimeout):
        await server.client.post(f"/v1/models/m/{action}", timeout=0.3)
    assert "[DONE]" in await running

    async def done() -> bool:
        return await state(server) == {"sleep": "asleep", "unload": "cold"}[action]

    await until(done, 10.0)
    assert await server.say("hello") == "hello"
    await server.conserved(ok=2)


async def test_a_server_ends_while_its_model_sleeps(serve: Serve) -> None:
    server = await serve()
    host = await server.host_pid()
    await server.client.post("/v1/models/m/sleep?level=2")
    server.process.send_signal(signal.SIGTERM)

    assert await server.ended(10) == 0
    assert await gone(host, 1)


async def test_a_server_ends_while_its_model_falls_asleep(serve: Serve) -> None:
    server = await serve(toml(m="sleep_delay = 60.0"), JARVIS_DRAIN_TIMEOUT="0.2")
    host = await server.host_pid()
    sleeping = asyncio.create_task(server.client.post("/v1/models/m/sleep"))

    async def begun() -> bool:
        return await state(server) == "falling_asleep"

    await until(begun, 10.0)
    server.process.send_signal(signal.SIGTERM)

    assert (await sleeping).status_code == 503
    assert await server.ended(15) == 0
    assert await gone(host, 1)
