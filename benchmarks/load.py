"""A load generator that costs little: raw HTTP, and answers that are read after the clock stops.

Client and servers share the machine, so every microsecond here is taken from what is measured.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, cast

import orjson
from attrs import frozen

_TEXT = re.compile(rb'"content": ?"[^"]')
_END = b"data: [DONE]"
_PIECE = re.compile(rb"^data: (\{.*\})\r?$", re.MULTILINE)


@frozen(kw_only=True)
class Answer:
    """One streamed answer.

    Attributes:
        begun: When it was asked, in seconds of the performance counter.
        came: When pieces of the stream came, on the same clock.
        ttft: Seconds from before the connection to the first text.
        seconds: Seconds to the end.
        prompt_tokens: Tokens of the prompt, as the server counts them; 0 if it does not.
        completion_tokens: Tokens of the answer, as the server counts them, else its pieces.
        text: The answer.
    """

    begun: float
    came: tuple[float, ...]
    ttft: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    text: str


class LoadError(RuntimeError):
    """A server did not answer a request as it should."""


class _Exchange(asyncio.Protocol):
    """One request on one connection."""

    def __init__(self, request: bytes, begun: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = begun
        self.first = 0.0
        self.ended = 0.0
        self.parts: list[bytes] = []
        self.came: list[float] = []
        self._request = request
        self._tail = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.came.append(perf_counter())
        if not self.first and _TEXT.search(data):
            self.first = self.came[-1]
        self.parts.append(data)
        self._tail = (self._tail + data)[-64:]
        if _END in self._tail and not self.done.done():
            self.ended = perf_counter()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            head = b"".join(self.parts)[:300].decode(errors="replace")
            self.done.set_exception(LoadError(f"the connection ended early after {head!r}"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def ask(port: int, body: dict[str, Any], *, key: str = "") -> Answer:
    """Send one chat to a server on this machine, and read its stream.

    Args:
        port: Where the server listens.
        body: The request; streaming is added.
        key: The API key, where one is needed.

    Raises:
        LoadError: The server did not answer with a whole stream.
        OSError: Nobody listens.
    """
    begun = perf_counter()
    loop = asyncio.get_running_loop()
    request = _request(port, body, key)
    _, exchange = await loop.create_connection(lambda: _Exchange(request, begun), "127.0.0.1", port)
    try:
        await exchange.done
    finally:
        exchange.close()
    return _read(exchange)


async def ask_all(port: int, bodies: Sequence[dict[str, Any]], concurrency: int) -> list[Answer]:
    """Send chats, so many at a time; the answers are in the order of the chats."""
    answers: list[Answer | None] = [None] * len(bodies)

    async def work(waiting: Iterator[tuple[int, dict[str, Any]]]) -> None:
        for at, body in waiting:
            answers[at] = await ask(port, body)

    waiting = iter(enumerate(bodies))
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work(waiting))
    return [a for a in answers if a is not None]


def _request(port: int, body: dict[str, Any], key: str) -> bytes:
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    payload = orjson.dumps({**body, **stream})
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Content-Type: application/json\r\n"
        "Connection: close\r\n"  # an answer without a stream is whole when the server closes
        f"Content-Length: {len(payload)}\r\n"
    )
    head += f"Authorization: Bearer {key}\r\n\r\n" if key else "\r\n"
    return head.encode() + payload


def _read(exchange: _Exchange) -> Answer:
    text: list[str] = []
    usage: dict[str, Any] = {}
    for match in _PIECE.finditer(b"".join(exchange.parts)):
        piece = orjson.loads(match[1])
        usage = piece.get("usage") or usage
        text += [c["delta"].get("content") or "" for c in piece.get("choices", ())]
    first = exchange.first or exchange.ended
    return Answer(
        begun=exchange.begun,
        came=tuple(exchange.came),
        ttft=first - exchange.begun,
        seconds=exchange.ended - exchange.begun,
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens") or sum(map(bool, text)),
        text="".join(text),
    )
