"""Server-sent events: a stream that stays alive, ends honestly, and waits for its reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import TypeVar

from jarvis_core.errors import JarvisError
from jarvis_core.http import errors
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.protocol import Connection, connection_of
from jarvis_core.http.responses import Response
from jarvis_core.settings import ServerSettings

Batch = TypeVar("Batch")

CONTENT_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def event(data: bytes) -> bytes:
    """One event."""
    return b"data: " + data + b"\n\n"


def error_event(error: JarvisError) -> bytes:
    """The event that tells a client that its stream failed; no ``[DONE]`` follows it."""
    return b"event: error\n" + event(errors.body(error))


async def stream(
    exchange: Exchange,
    settings: ServerSettings,
    *,
    headers: Mapping[str, str],
    first: bytes,
    batches: AsyncIterable[Batch],
    encode: Callable[[Batch, float], bytes],
    last: Callable[[], bytes],
    failure: Callable[[JarvisError], bytes] = error_event,
    settle: Callable[[bytes], Awaitable[bytes]] | None = None,
) -> None:
    """Answer with a stream of events.

    Args:
        exchange: The request.
        settings: For the keep-alive interval.
        headers: Headers of the answer.
        first: Events that are sent with the headers.
        batches: What is to be sent. An error from it ends the stream with ``failure``.
        encode: Turns a batch and the moment of its coming into events, possibly none.
        last: Makes the events at the end of a whole answer.
        failure: Makes the events at the end of one that failed.
        settle: Takes the end, and returns it once what it tells is true. Where the server ends the
            request meanwhile, the end is sent at once.
    """
    request = exchange.request
    response = Response(
        status=200,
        headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers},
        content_type=CONTENT_TYPE,
    )
    await request.respond(response)
    exchange.status = 200
    await response.send(first)
    connection = connection_of(request)
    pulse = _Pulse(connection, settings.keepalive_interval)
    try:
        try:
            with exchange.cuttable():
                # A task of its own: a chunk would else be resumed through a dozen frames below it.
                await asyncio.create_task(_pump(batches, encode, connection, pulse))
            end = last()
        except Exception as raised:
            error = errors.from_exception(raised, request_id=exchange.id)
            exchange.failed(error)
            end = failure(error)
        if settle is not None:
            with suppress(JarvisError), exchange.cuttable():
                end = await settle(end)
    finally:
        pulse.stop()
    await response.send(end, end_stream=True)


async def _pump(
    batches: AsyncIterable[Batch],
    encode: Callable[[Batch, float], bytes],
    connection: Connection,
    pulse: _Pulse,
) -> None:
    async for batch in batches:
        now = perf_counter()
        if data := encode(batch, now):
            connection.write_chunk(data)
            pulse.written_at = now
            if connection.unread_since is not None:
                await connection.written()


class _Pulse:
    """Fills silence with comments.

    One timer for a whole stream: each of its chunks costs nothing but to note the time.

    Attributes:
        written_at: Seconds on the performance counter when something was written last.
    """

    def __init__(self, connection: Connection, interval: float) -> None:
        self.written_at = perf_counter()
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._timer = self._loop.call_later(self._interval, self._beat)

    def stop(self) -> None:
        """Write no more comments."""
        self._timer.cancel()

    def _beat(self) -> None:
        now = perf_counter()
        wait = self.written_at + self._interval - now
        if wait <= 0:
            if self._connection.unread_since is None:  # else there is enough to read
                self._connection.write_chunk(KEEP_ALIVE)
            self.written_at = now
            wait = self._interval
        self._timer = self._loop.call_later(wait, self._beat)
