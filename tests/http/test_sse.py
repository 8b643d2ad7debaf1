"""Streams: alive while silent, gone when the client is, never held up by one that does not read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jarvis_core.structs import ChatRequest, Delta, Usage

pytestmark = pytest.mark.anyio

USAGE = Usage(prompt_tokens=7, completion_tokens=1)
END = Delta(content="end", finish_reason="stop", usage=USAGE)
Batches = AsyncIterator[Sequence[Delta]]


def head(*, stream: bool = True, body: bytes = b"") -> bytes:
    """A chat request as bytes."""
    body = (
        body
        or json.dumps(
            {"model": "tiny", "stream": stream, "messages": [{"role": "user", "content": "a"}]}
        ).encode()
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


async def for_ever(request: ChatRequest) -> Batches:
    while True:
        yield [Delta(content="word ")]
        await asyncio.sleep(0.005)


async def silent(request: ChatRequest) -> Batches:
    await asyncio.sleep(3600)
    yield []


async def test_a_silent_stream_is_kept_alive_and_completes(serve: Any, kit: Any) -> None:
    """R-14: before the first text and inside of the stream."""
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        await asyncio.sleep(0.35)
        yield [Delta(content="a")]
        await asyncio.sleep(0.35)
        yield [END]

    model.script = script
    served = await serve(model, keepalive_interval=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head())
    text = await asyncio.wait_for(reader.readuntil(b"[DONE]"), 10)
    before, after = text.split(b'"content":"a"')
    assert before.count(b": keep-alive") >= 2
    assert after.count(b": keep-alive") >= 2
    writer.close()


async def test_a_lively_stream_has_no_comments(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        for _ in range(30):
            await asyncio.sleep(0.02)
            yield [Delta(content="a")]
        yield [END]

    model.script = script
    served = await serve(model, keepalive_interval=0.5)
    events = kit.read_events((await served.chat(stream=True)).text)
    assert events.done
    assert events.comments == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_request_at_once(
    serve: Any, kit: Any, stream: bool
) -> None:
    """R-10."""
    model = kit.make_model()
    model.script = for_ever if stream else silent
    served = await serve(model)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head(stream=stream))
    while not model.running:
        await asyncio.sleep(0.01)
    if stream:
        await reader.readuntil(b'"content":"word "')
    began = time.perf_counter()
    writer.close()
    await asyncio.wait_for(model.closed.wait(), 5)
    assert time.perf_counter() - began < 1
    await served.idle()
    assert model.running == 0


async def test_a_hundred_clients_that_leave_leave_nothing_behind(serve: Any, kit: Any) -> None:
    """R-10."""
    model = kit.make_model()
    model.script = for_ever
    served = await serve(model)

    async def visit() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head())
        await reader.readuntil(b'"content":"word "')
        writer.close()

    await visit()
    await served.idle()
    before = len(asyncio.all_tasks())
    for _ in range(10):
        await asyncio.gather(*(visit() for _ in range(10)))
    await served.idle()
    for _ in range(100):
        if len(asyncio.all_tasks()) <= before and not served.server.connections:
            break
        await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) <= before
    assert not served.server.connections
    assert model.running == 0
    metrics = (await served.client.get("/metrics")).text
    assert 'status="aborted"} 101.0' in metrics


async def test_a_client_that_leaves_while_it_waits_for_a_model_is_forgotten(
    serve: Any, kit: Any
) -> None:
    """R-11."""
    model = kit.make_model()
    served = await serve(model)
    entered, left = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        entered.set()
        try:
            await asyncio.sleep(3600)
        finally:
            left.set()

    served.catalogue.lease_gate = gate
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head())
    await asyncio.wait_for(entered.wait(), 5)
    writer.close()
    await asyncio.wait_for(left.wait(), 5)
    await served.idle()
    assert model.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_pipelined_junk_does_not_hide_that_the_client_left(
    serve: Any, kit: Any, stream: bool
) -> None:
    """R-12."""
    model = kit.make_model()
    model.script = silent
    served = await serve(model, keepalive_interval=60)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head(stream=stream) + b"x" * 200_000)
    await writer.drain()
    while not model.running:
        await asyncio.sleep(0.01)
    writer.write(b"y" * 200_000)
    await writer.drain()
    writer.close()
    await asyncio.wait_for(model.closed.wait(), 5)
    await served.idle()


async def test_junk_in_small_pieces_does_not_hide_that_the_client_left(
    serve: Any, kit: Any
) -> None:
    """R-12."""
    model = kit.make_model()
    model.script = silent
    served = await serve(model, keepalive_interval=60)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head())
    while not model.running:
        await asyncio.sleep(0.01)
    for _ in range(40):
        writer.write(b"y" * 5_000)
        await writer.drain()
        await asyncio.sleep(0.005)
    writer.close()
    await asyncio.wait_for(model.closed.wait(), 5)
    await served.idle()


async def test_clients_that_do_not_read_are_cut_and_others_go_on(serve: Any, kit: Any) -> None:
    """R-13."""
    model = kit.make_model()
    sent: list[int] = []

    async def script(request: ChatRequest) -> Batches:
        if request.messages[-1].content == "a":
            while True:
                sent.append(1)
                yield [Delta(content="x" * 10_000)]
                await asyncio.sleep(0)
        async for batch in kit.echo(request):
            yield batch

    model.script = script
    served = await serve(model, write_timeout=0.5, keepalive_interval=0.1)
    writers = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(head())
        writers.append((reader, writer))
    await asyncio.sleep(0.2)
    began = time.perf_counter()
    assert (await served.chat("b")).status_code == 200
    assert time.perf_counter() - began < 1
    stalled = len(sent)
    await served.idle()
    assert model.running == 0
    assert len(sent) < stalled + 50  # nothing is generated for those that do not read
    for _, writer in writers:
        writer.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_nobody_reads_does_not_keep_its_connection(
    serve: Any, kit: Any, stream: bool
) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(content="x" * 20_000_000), END]

    model.script = script
    served = await serve(model, write_timeout=0.2)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(head(stream=stream) * 5)
    for _ in range(200):
        if model.requests and not served.server.connections:
            break
        await asyncio.sleep(0.05)
    writer.close()
    assert not served.server.connections
    assert len(model.requests) <= 2


async def test_a_slow_reader_gets_everything(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        for _ in range(400):
            yield [Delta(content="x" * 10_000)]
        yield [END]

    model.script = script
    served = await serve(model, write_timeout=5)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(head())
    received = 0
    tail = b""
    while b"[DONE]" not in tail:
        part = await asyncio.wait_for(reader.read(50_000), 5)
        assert part
        received += part.count(b"x" * 1000)
        tail = (tail + part)[-2000:]
    assert received >= 400 * 9
    writer.close()


async def test_a_connection_serves_a_stream_and_then_something_else(serve: Any) -> None:
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for _ in range(3):
        writer.write(head())
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_nothing_is_written_once_a_stream_has_ended(serve: Any) -> None:
    served = await serve(keepalive_interval=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head())
    await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.3)
    writer.close()
