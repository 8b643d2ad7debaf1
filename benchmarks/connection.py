"""A client's connection: requests one after the other, and streams that can be left."""

from __future__ import annotations

import asyncio
import re
from time import perf_counter
from typing import Any

import orjson
from attrs import frozen

_TEXT = re.compile(rb'"content":"[^"]')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

CHAT = "/v1/chat/completions"


@frozen(kw_only=True)
class Reply:
    """A response.

    Attributes:
        status: Its status code.
        head: Its status line and headers, in lower case.
        body: Its body.
        seconds: From the request to the last byte.
    """

    status: int
    head: bytes
    body: bytes
    seconds: float


def request(path: str, body: bytes | None = None, *, key: str = "") -> bytes:
    """The bytes of a request; one with a body is a POST."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    if body is None:
        return f"{head}\r\n".encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chat(text: str, **fields: Any) -> bytes:
    """The body of a chat with the model ``bench``."""
    messages = [{"role": "user", "content": text}]
    return orjson.dumps({"model": "bench", "messages": messages, **fields})


class Connection:
    """One connection to a server on this machine.

    Attributes:
        reader: What the server sends.
        writer: What it is sent.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._tail = b""

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str, body: bytes | None = None, *, key: str = "") -> Reply:
        """Send a request and read the whole response.

        Raises:
            asyncio.IncompleteReadError: The server closed the connection before.
        """
        begun = perf_counter()
        self.writer.write(request(path, body, key=key))
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = _LENGTH.search(head)
        if length is not None:
            whole = await self.reader.readexactly(int(length[1]))
        else:
            whole = await self.reader.readuntil(b"\r\n0\r\n\r\n")
        return Reply(
            status=int(head.split(None, 2)[1]),
            head=head,
            body=whole,
            seconds=perf_counter() - begun,
        )

    def begin_stream(self, text: str, **fields: Any) -> None:
        """Ask for a stream."""
        self.writer.write(request(CHAT, chat(text, stream=True, **fields)))

    async def pieces(self, count: int) -> None:
        """Read until so many more pieces of text have come.

        Raises:
            ConnectionError: The stream ended before.
        """
        seen = 0
        while seen < count:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the stream was cut")
            whole, _, self._tail = (self._tail + data).rpartition(b"\n\n")
            seen += len(_TEXT.findall(whole))

    def leave(self) -> None:
        """Hang up at once."""
        self.writer.transport.abort()
