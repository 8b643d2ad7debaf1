"""Whole answers and events of a stream, as Anthropic's clients expect them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from attrs import field, frozen

from jarvis_core.errors import ContextLengthExceeded, JarvisError
from jarvis_core.structs import (
    Answer,
    Completion,
    Delta,
    FinishReason,
    ToolCall,
    ToolCallDelta,
    Usage,
)

_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_TOO_LONG = (
    re.compile(
        r"context length is (?P<context>[\d,]+) tokens, "
        r"and the prompt has (?P<prompt>[\d,]+) tokens(?: and max_tokens is (?P<most>[\d,]+))?"
    ),
    re.compile(
        r"the prompt has more than (?P<prompt>[\d,]+) tokens, "
        r"and the context length is (?P<context>[\d,]+) tokens"
    ),
)
"""What ``completion_room`` says of a prompt, and engines of one that they do not even tokenize."""

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@frozen(kw_only=True)
class Head:
    """What is known about an answer before it comes.

    Attributes:
        model: Configured name of the model.
        stop_sequences: The client's own; a format's are nobody's business.
        id: Identifier of the answer.
    """

    model: str
    stop_sequences: tuple[str, ...] = ()
    id: str = field(factory=lambda: f"msg_{uuid.uuid4().hex}")

    def fields(self) -> dict[str, Any]:
        """Its keys on the wire."""
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model}

    def ending(self, finish_reason: FinishReason | None, stop: str | None) -> dict[str, Any]:
        """Why the answer ended, on the wire."""
        if finish_reason == "stop" and stop in self.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": stop}
        reason = _STOP_REASONS[finish_reason] if finish_reason else None
        return {"stop_reason": reason, "stop_sequence": None}


def error_body(error: JarvisError) -> bytes:
    """The JSON of an error."""
    message = error.message
    if isinstance(error, ContextLengthExceeded):
        message = _too_long(message)
    other = "invalid_request_error" if error.status_code < 500 else "api_error"
    kind = _ERROR_TYPES.get(error.status_code, other)
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _too_long(message: str) -> str:
    """How Anthropic says that something does not fit.

    Claude Code 2.1.197 knows it by these words: of the first it takes the numbers, to ask for fewer
    tokens, and after the second it sums the conversation up.
    """
    for pattern in _TOO_LONG:
        if (found := pattern.search(message)) is None:
            continue
        sizes = {name: int(n.replace(",", "")) for name, n in found.groupdict("0").items()}
        prompt, context, most = sizes["prompt"], sizes["context"], sizes.get("most", 0)
        if most and prompt < context:
            return (
                f"input length and `max_tokens` exceed context limit: {prompt} + {most} > "
                f"{context}, decrease input length or `max_tokens` and try again"
            )
        return f"prompt is too long: {prompt} tokens > {context} maximum"
    return message


def usage(counted: Usage) -> dict[str, int]:
    """The usage object; tokens that were found in the prefix cache are counted apart."""
    return {
        "input_tokens": counted.prompt_tokens - counted.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached_tokens,
        "output_tokens": counted.completion_tokens,
    }


class MessageWriter:
    """Writes one answer: whole, or the events of its stream.

    Args:
        head: What is known about it.
        prompt_tokens: Tells the tokens of the prompt, once the engine has accepted it.
    """

    def __init__(self, head: Head, *, prompt_tokens: Callable[[], int]) -> None:
        self._head = head
        self._prompt_tokens = prompt_tokens
        self._blocks = 0
        self._open: str | int | None = None  # kind of the open block, or which call it is
        self._last = Delta()

    def whole(self, completion: Completion) -> bytes:
        """The body of an answer that is not streamed."""
        (answer,) = completion.answers
        return orjson.dumps(
            {
                **self._head.fields(),
                "content": _content(answer),
                **self._head.ending(answer.finish_reason, answer.stop_string),
                "usage": usage(completion.usage),
            }
        )

    def opening(self) -> bytes:
        """The event that announces the answer."""
        counted = Usage(prompt_tokens=self._prompt_tokens(), completion_tokens=0)
        message = {
            **self._head.fields(),
            "content": [],
            **self._head.ending(None, None),
            "usage": usage(counted),
        }
        return _event("message_start", message=message)

    def batch(self, deltas: Sequence[Delta]) -> bytes:
        """The events of some deltas."""
        return b"".join(map(self._delta, deltas))

    def closing(self, counted: Usage) -> bytes:
        """The events at the end of a whole stream."""
        ending = self._head.ending(self._last.finish_reason, self._last.stop_string)
        return (
            self._close()
            + _event("message_delta", delta=ending, usage=usage(counted))
            + _event("message_stop")
        )

    def failure(self, error: JarvisError) -> bytes:
        """The event at the end of a stream that failed."""
        return b"event: error\ndata: " + error_body(error) + b"\n\n"

    def _delta(self, delta: Delta) -> bytes:
        written = b""
        if delta.reasoning:
            written += self._begin("thinking", thinking="", signature="")
            written += self._more("thinking_delta", "thinking", delta.reasoning)
        if delta.content:
            written += self._begin("text", text="")
            written += self._more("text_delta", "text", delta.content)
        for call in delta.tool_calls:
            written += self._call(call)
        if delta.finish_reason is not None:
            self._last = delta
        return written

    def _call(self, call: ToolCallDelta) -> bytes:
        written = b""
        if call.name is not None:
            written = self._begin("tool_use", key=call.index, id=call.id, name=call.name, input={})
        if call.arguments:
            written += self._more("input_json_delta", "partial_json", call.arguments)
        return written

    def _begin(self, kind: str, *, key: str | int | None = None, **empty: Any) -> bytes:
        """Open a block, unless it is open."""
        key = kind if key is None else key
        if self._open == key:
            return b""
        written = self._close()
        self._open = key
        block = {"type": kind, **empty}
        return written + _event("content_block_start", index=self._blocks, content_block=block)

    def _more(self, kind: str, name: str, text: str) -> bytes:
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
            b'{"type":"%b","%b":%b}}\n\n'
            % (self._blocks, kind.encode(), name.encode(), orjson.dumps(text))
        )

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        written = b""
        if self._open == "thinking":  # without it some clients do not send the block back
            written = self._more("signature_delta", "signature", "")
        self._open = None
        self._blocks += 1
        return written + _event("content_block_stop", index=self._blocks - 1)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _content(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if answer.content:
        blocks.append({"type": "text", "text": answer.content})
    return blocks + [_tool_use(call) for call in answer.tool_calls]


def _tool_use(call: ToolCall) -> dict[str, Any]:
    """A call as a block. One that was cut off is text: its arguments are no object."""
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        return {"type": "text", "text": f"{call.name}({call.arguments}"}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
