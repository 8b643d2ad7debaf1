"""Responses on the wire, whole and as events.

Everything here is valid by both published schemas, OpenAI's and Open Responses'.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import field, frozen

from jarvis_core.chat import Fold
from jarvis_core.errors import JarvisError, RateLimited
from jarvis_core.http import errors, sse
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.openai.responses.output import Event, Output, Status
from jarvis_core.http.openai.responses.tools import Namespaces
from jarvis_core.structs import Completion, Delta, FinishReason, Usage

_INCOMPLETE: Mapping[str, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


@frozen(kw_only=True)
class ResponseHead:
    """What a response and every event about it have in common.

    Attributes:
        echo: What was asked, and what becomes of it: every key that does not change any more.
        hex: What its identifiers are made of.
        created_at: Seconds since the epoch.
    """

    echo: Mapping[str, Any]
    hex: str = field(factory=lambda: uuid.uuid4().hex)
    created_at: int = field(factory=lambda: int(time.time()))

    @property
    def id(self) -> str:
        """The response's identifier."""
        return f"resp_{self.hex}"

    def item_id(self, prefix: str, index: int) -> str:
        """Identifier of an item of its output: it says where the item is stored."""
        return f"{prefix}_{self.hex}{index:04d}"

    def body(
        self,
        status: str,
        usage: Usage,
        output: Sequence[Mapping[str, Any]] = (),
        error: JarvisError | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        """The response as it is now."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "error": None if error is None else {"code": _code(error), "message": error.message},
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": output,
            "usage": _usage(usage),
            **self.echo,
        }


def _code(error: JarvisError) -> str:
    """The nearest of the codes that OpenAI's schema allows."""
    return "rate_limit_exceeded" if isinstance(error, RateLimited) else "server_error"


def _usage(usage: Usage) -> dict[str, Any]:
    cached = usage.cached_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": usage.prompt_tokens - cached,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class EventWriter:
    """Numbers the events of one stream, and writes them."""

    def __init__(self) -> None:
        self._number = 0

    def write(self, events: Iterable[Event]) -> bytes:
        """Some events."""
        return b"".join([self._one(*event) for event in events])

    def repeatable(self, events: Sequence[Event], ending: bytes = b"") -> Callable[[], bytes]:
        """Writes the last events, each time with the same numbers."""
        first = self._number

        def write() -> bytes:
            self._number = first
            return self.write(events) + ending

        return write

    def _one(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class _ItemFold(Fold):
    """Passes the deltas on as well."""

    def __init__(self, add: Callable[[Delta], object]) -> None:
        super().__init__()
        self._pass_on = add

    def add(self, delta: Delta) -> None:
        """Take the next delta."""
        super().add(delta)
        self._pass_on(delta)


class ResponseWriter:
    """Writes one response.

    Args:
        head: What all of it has in common.
        exchange: The request, for what was counted so far.
        logprobs: Whether logprobs are wanted.
        tells_reasoning: Whether what is thought is told as it comes.
        namespaces: What the client calls functions that are in a namespace.
        keep: Called with the response when it has ended, however it ended; says whether it is
            stored.
    """

    def __init__(
        self,
        head: ResponseHead,
        exchange: Exchange,
        *,
        logprobs: bool,
        tells_reasoning: bool,
        namespaces: Namespaces,
        keep: Callable[[dict[str, Any]], bool],
    ) -> None:
        self._head = head
        self._exchange = exchange
        self._output = Output(
            head.item_id,
            logprobs=logprobs,
            tells_reasoning=tells_reasoning,
            namespaces=namespaces,
        )
        self._keep = keep
        self._events = EventWriter()
        self._finish_reason: FinishReason = "stop"
        self._begun = self._ended = False
        self._body: dict[str, Any] = {}
        self._write_end: Callable[[], bytes] = bytes

    @property
    def id(self) -> str:
        """The response's identifier."""
        return self._head.id

    # -- whole -------------------------------------------------------------------------------

    def fold(self) -> Fold:
        """Adds up the deltas of a whole response: its items keep the order of a stream's."""
        return _ItemFold(self._add)

    def whole(self, completion: Completion) -> bytes:
        """The body of a response that is not streamed, once ``fold`` has its deltas."""
        _, body = self._end(completion.usage)
        return self._last(body, lambda: orjson.dumps(body))

    # -- streamed ----------------------------------------------------------------------------

    def opening(self) -> bytes:
        """The response as it begins."""
        self._begun = True
        fields = {"response": self._head.body("in_progress", self._counted)}
        return self._events.write([("response.created", fields), ("response.in_progress", fields)])

    def batch(self, deltas: Sequence[Delta]) -> bytes:
        """The events of some deltas."""
        return b"".join([self._events.write(self._add(delta)) for delta in deltas])

    def closing(self, usage: Usage) -> bytes:
        """What completes the response, and its end."""
        events, body = self._end(usage)
        done = (f"response.{body['status']}", {"response": body})
        return self._last(body, self._events.repeatable([*events, done], sse.DONE))

    def failure(self, error: JarvisError) -> bytes:
        """The response as far as it came, and why it came no further."""
        events = list(self._output.finish("incomplete"))
        self._ended = True
        body = self._head.body("failed", self._counted, self._output.items, error=error)
        body["store"] = self._keep(body)
        told = orjson.loads(errors.body(error))["error"]
        # The schemas differ: OpenAI's error event is flat, Open Responses' has an object.
        flat = {key: told[key] for key in ("code", "message", "param")}
        failed = ("response.failed", {"response": body})
        told_last = ("error", {**flat, "error": told})
        return self._last(body, self._events.repeatable([*events, failed, told_last]))

    def abandon(self) -> None:
        """Keep what a client that has left was sent."""
        if self._begun and not self._ended:
            self._ended = True
            for _ in self._output.finish("incomplete"):
                pass
            self._keep(self._head.body("cancelled", self._counted, self._output.items))

    # -- both --------------------------------------------------------------------------------

    def unkept(self) -> bytes:
        """The end of the response once more: it is not stored after all."""
        self._body["store"] = False
        return self._write_end()

    def _last(self, body: dict[str, Any], write: Callable[[], bytes]) -> bytes:
        self._body, self._write_end = body, write
        return write()

    def _add(self, delta: Delta) -> list[Event]:
        if delta.finish_reason is not None:
            self._finish_reason = delta.finish_reason
        return list(self._output.add(delta))

    def _end(self, usage: Usage) -> tuple[list[Event], dict[str, Any]]:
        reason = _INCOMPLETE.get(self._finish_reason)
        status: Status = "completed" if reason is None else "incomplete"
        events = list(self._output.finish(status))
        body = self._head.body(status, usage, self._output.items, reason=reason)
        self._ended = True
        body["store"] = self._keep(body)
        return events, body

    @property
    def _counted(self) -> Usage:
        """What is known before the engine has counted."""
        return Usage(
            prompt_tokens=self._exchange.prompt_tokens,
            completion_tokens=self._exchange.generated,
        )
