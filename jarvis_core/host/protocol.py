"""What server and engine host say to each other: length-prefixed msgpack frames.

A frame is a list whose first item is its kind. The server sends

=============  =========================================================================
``load``       a ``HostPlan``
``request``    number, request id, a kind of ``calls.REQUESTS``, a request of that kind, and how
               many sequences may be computed of it at the same time, null for all
``widen``      number, sequences that may be computed beside those granted before
``cancel``     number
``credit``     number, the ``cost`` of deltas that may be sent beside those granted before
``ping``       nothing
``shutdown``   nothing
=============  =========================================================================

and the host

=============  =========================================================================
``progress``   bytes downloaded, bytes to download
``ready``      a ``ModelInfo``, the name of the chat format
``failed``     an error: the model cannot be loaded
``accepted``   number, prompt tokens: deltas will follow
``deltas``     a list of packed deltas (``pack_delta``), of any requests, in order
``result``     number, the result of a call
``error``      number, an error: the request has ended
``pong``       ``EngineStats``
=============  =========================================================================

A number is one request's for as long as the host lives. Deltas are the hot path: a plain piece of
text is two items, and all deltas of one loop turn share a frame. Everything else is built from
attrs classes by one cattrs converter.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

import cattrs
import msgspec
from attrs import field, frozen
from cattrs.strategies import configure_tagged_union

from jarvis_core.errors import JarvisError
from jarvis_core.structs import (
    Delta,
    Part,
    Scalar,
    TextOrTokens,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

PROTOCOL = 6
"""Version of the frames; server and host must have the same."""

CREDIT = 256
"""What a host may send of one request before the server has taken any; see ``cost``."""

LOGPROBS_AS_TEXT = 4
"""Log probabilities that take as much memory as a delta of text."""

CLOSE_GRACE = 5.0
"""Seconds that an engine gets to close before its process group is ended."""

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of the largest frame; more is a broken peer."""

Frame = list[Any]

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


@frozen(kw_only=True)
class HostPlan:
    """What a host is to load and how.

    Attributes:
        name: The configured name of the model.
        source: Path or hub id of its weights.
        engine: Name of the engine type.
        chat_format: Name of the chat format, ``auto`` to detect it.
        chat_template: Path of a file whose Jinja template takes the place of the model's own.
        context_length: Tokens per request, None leaves it to the engine.
        adapters: Paths of LoRA adapters by name.
        settings: The engine's settings by field name.
    """

    name: str
    source: str
    engine: str
    chat_format: str = "auto"
    chat_template: str | None = None
    context_length: int | None = None
    adapters: dict[str, str] = field(factory=dict)
    settings: dict[str, Any] = field(factory=dict)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(unstruct_collection_overrides={frozenset: sorted})
    configure_tagged_union(Part, converter)
    converter.register_structure_hook(Scalar, lambda value, _: value)
    converter.register_structure_hook(Any, lambda value, _: value)
    converter.register_structure_hook(
        TextOrTokens, lambda v, _: tuple(v) if isinstance(v, list) else v
    )
    converter.register_unstructure_hook(TextOrTokens, lambda v: v)
    content = str | tuple[Part, ...] | None
    converter.register_structure_hook(
        content,
        lambda v, _: converter.structure(v, tuple[Part, ...]) if isinstance(v, list) else v,
    )
    converter.register_unstructure_hook(
        content,
        lambda v: converter.unstructure(v, tuple[Part, ...]) if isinstance(v, tuple) else v,
    )
    return converter


converter = _make_converter()
"""Turns the structs of this package into plain values and back."""


def encode(frame: Frame) -> bytes:
    """A frame with its length in front."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


def cost(delta: Delta) -> int:
    """The credit that a delta takes: 1, and more for log probabilities.

    They are up to twenty times the size of the text, and wait in the server's memory with it.
    """
    if not delta.logprobs:
        return 1
    return 1 + sum(1 + len(found.top) for found in delta.logprobs) // LOGPROBS_AS_TEXT


def pack_delta(stream: int, delta: Delta) -> list[Any]:
    """A delta as a short list: two items for plain text of the first answer."""
    if (
        delta.finish_reason is None
        and not delta.index
        and not delta.reasoning
        and not delta.tool_calls
        and not delta.logprobs
        and not delta.prompt_logprobs
    ):
        return [stream, delta.content]
    return [
        stream,
        delta.content,
        delta.reasoning,
        [[c.index, c.id, c.name, c.arguments] for c in delta.tool_calls],
        delta.index,
        delta.finish_reason,
        [_pack_logprob(p) for p in delta.logprobs],
        None
        if delta.usage is None
        else [
            delta.usage.prompt_tokens,
            delta.usage.completion_tokens,
            delta.usage.cached_tokens,
            delta.usage.reasoning_tokens,
        ],
        delta.stop_string,
        [p and _pack_logprob(p) for p in delta.prompt_logprobs],
    ]


def unpack_delta(packed: list[Any]) -> Delta:
    """The delta of ``pack_delta``; its stream is the first item."""
    if len(packed) == 2:
        return Delta(content=packed[1])
    _, content, reasoning, calls, index, finish_reason, logprobs, usage, stop, prompt = packed
    return Delta(
        content=content,
        reasoning=reasoning,
        tool_calls=tuple(
            ToolCallDelta(index=i, id=id_, name=name, arguments=arguments)
            for i, id_, name, arguments in calls
        ),
        index=index,
        finish_reason=finish_reason,
        stop_string=stop,
        logprobs=tuple(map(_unpack_logprob, logprobs)),
        usage=usage and _unpack_usage(*usage),
        prompt_logprobs=tuple([p and _unpack_logprob(p) for p in prompt]),
    )


def _unpack_usage(prompt: int, completion: int, cached: int, reasoning: int) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
    )


def _pack_logprob(logprob: TokenLogprob) -> list[Any]:
    return [
        logprob.token_id,
        logprob.token,
        logprob.logprob,
        logprob.data,
        [_pack_logprob(t) for t in logprob.top],
    ]


def _unpack_logprob(packed: list[Any]) -> TokenLogprob:
    token_id, token, logprob, data, top = packed
    return TokenLogprob(
        token_id=token_id,
        token=token,
        logprob=logprob,
        data=data,
        top=tuple(map(_unpack_logprob, top)),
    )


class FrameChannel(asyncio.Protocol):
    """One end of the socket pair: calls back for each frame, and once when the peer is gone."""

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, frame: Frame) -> None:
        """Send a frame; nothing happens if the peer is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def send_error(self, kind: str, error: JarvisError, *head: int) -> None:
        """Send an error frame."""
        self.send([kind, *head, error.to_wire()])

    def close(self) -> None:
        """Close this end; what was sent is still flushed."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into frames."""
        self._buffer += data
        buffer, start = self._buffer, 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            frame = _decoder.decode(memoryview(buffer)[start + _LENGTH.size : end])
            start = end
            self._on_frame(frame)
        if start:
            del self._buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the peer is gone."""
        self._transport = None
        self._on_lost()
