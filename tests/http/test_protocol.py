"""Connections: deadlines of their phases, the cap, and requests that are no HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from jarvis_core.http import protocol

pytestmark = pytest.mark.anyio

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_headers_that_drip_are_cut_at_the_deadline(serve: Any) -> None:
    """R-18; ``benchmarks/reliability.py`` prints how soon others are answered meanwhile."""
    served = await serve(header_timeout=0.4)
    began = time.perf_counter()

    async def drip() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nX-A: ")
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        while not answer.done():
            writer.write(b"a")
            await asyncio.wait((answer,), timeout=0.05)
        writer.close()
        return answer.result()

    dripping = [asyncio.create_task(drip()) for _ in range(50)]
    while not all(task.done() for task in dripping):
        assert (await served.client.get("/health/live")).status_code == 200
        await asyncio.sleep(0.05)
    assert {task.result() for task in dripping} == {b"HTTP/1.1 408 Request Timeout\r\n"}
    assert time.perf_counter() - began < 10


async def test_a_connection_that_never_sends_is_closed(serve: Any) -> None:
    served = await serve(header_timeout=0.2)
    assert await served.raw(b"") == b""


async def test_an_idle_connection_outlives_the_header_deadline(serve: Any) -> None:
    served = await serve(header_timeout=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for _ in range(3):
        writer.write(LIVE)
        assert (await reader.readuntil(b'"ok"}')).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.3)
    writer.close()


async def test_an_idle_connection_is_closed_in_the_end(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE", 0.2)
    served = await serve(header_timeout=0.1)
    assert (await served.raw(LIVE)).startswith(b"HTTP/1.1 200")


async def test_connections_over_the_cap_are_refused_while_all_are_in_use(
    serve: Any, kit: Any
) -> None:
    served = await serve(max_connections=3)
    gate = asyncio.Event()
    served.catalogue.lease_gate = gate.wait
    running = [asyncio.create_task(served.chat()) for _ in range(3)]
    while len(served.front.exchanges) < 3:
        await asyncio.sleep(0.01)
    answer = await served.raw(b"")
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
    assert b'"code":"queue_full"' in answer
    gate.set()
    assert [(await task).status_code for task in running] == [200] * 3


async def test_an_idle_connection_makes_room_for_a_new_one(serve: Any) -> None:
    served = await serve(max_connections=2)
    idle = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
    for reader, writer in idle:
        writer.write(LIVE)
        await reader.readuntil(b'"ok"}')
    assert (await served.client.get("/health/live")).status_code == 200
    for _, writer in idle:
        writer.close()


async def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    served = await serve()
    last = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = await served.raw(LIVE * 5 + last)
    assert answers.count(b'{"status":"ok"}') == 5
    assert answers.endswith(b"]}]}") or b'"object":"list"' in answers.rpartition(b"HTTP/1.1")[2]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"400",
        ),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            b"400",
        ),
        (b"GET /health/live HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"413"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"413"),
        (b"BREW /health/live HTTP/1.1\r\nConnection: close\r\n\r\n", b"405"),
        (b"GET /nothing?secret HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
async def test_what_is_no_request_is_answered_in_openais_shape(
    serve: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: bytes
) -> None:
    monkeypatch.setattr(protocol, "LINGER", 0.1)
    served = await serve(header_timeout=0.4)
    answer = await served.raw(sent)
    assert answer.split(b" ")[1] == status
    assert b"content-type: application/json" in answer
    assert answer.partition(b"\r\n\r\n")[2].startswith(b'{"error":{"message":')
    assert b"x-request-id: req-" in answer
    assert b"secret" not in answer
