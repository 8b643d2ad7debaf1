"""Whole answers and stream chunks of a chat, as OpenAI's clients expect them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
from attrs import field, frozen

from jarvis_core.http import sse
from jarvis_core.structs import (
    Answer,
    Completion,
    Delta,
    ModelInfo,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)


@frozen(kw_only=True)
class Head:
    """What the answer and every chunk of it have in common.

    Attributes:
        model: Configured name of the model.
        fingerprint: The engine and its backend's version.
        id: Identifier of the answer.
        created: Seconds since the epoch.
    """

    model: str
    fingerprint: str
    id: str
    created: int = field(factory=lambda: int(time.time()))

    @classmethod
    def of(cls, model: ModelInfo, *, prefix: str) -> Head:
        """The head of a new answer of this model; its id begins with ``prefix``."""
        return cls(
            model=model.name,
            fingerprint=f"{model.engine}/{model.backend}",
            id=f"{prefix}-{uuid.uuid4().hex}",
        )

    def fields(self, kind: str) -> dict[str, Any]:
        """Its keys on the wire."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


# -- whole -----------------------------------------------------------------------------------


def _choice(answer: Answer, logprobs: bool) -> dict[str, Any]:
    content = answer.content
    if content is None and not answer.tool_calls:
        content = ""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": [],
    }
    if answer.reasoning is not None:
        message["reasoning_content"] = message["reasoning"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return {
        "index": answer.index,
        "message": message,
        "logprobs": _logprobs(answer.logprobs) if logprobs else None,
        "finish_reason": answer.finish_reason,
    }


def usage(counted: Usage) -> dict[str, Any]:
    """The usage object."""
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
    }


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"content": [logprob(p) for p in logprobs], "refusal": None}


def logprob(chosen: TokenLogprob) -> dict[str, Any]:
    """How likely a token was, and the likeliest ones at its place."""
    return {**_token(chosen), "top_logprobs": [_token(p) for p in chosen.top]}


def _token(logprob: TokenLogprob) -> dict[str, Any]:
    return {
        "token": logprob.token,
        "logprob": least(logprob.logprob),
        "bytes": list(logprob.data),
    }


def _by_id(logprob: TokenLogprob) -> dict[str, Any]:
    """A prompt token and the likeliest ones in its place, as vLLM writes them.

    The rank of a token that is not among the likeliest is not known.
    """
    found: dict[str, Any] = {}
    for rank, top in (*enumerate(logprob.top, 1), (None, logprob)):
        shown = {"logprob": least(top.logprob), "rank": rank, "decoded_token": top.token}
        found.setdefault(str(top.token_id), shown)
    return found


def least(logprob: float) -> float:
    """A logprob that JSON can say: it has no -Infinity."""
    return max(logprob, -9999.0)


# -- streamed --------------------------------------------------------------------------------


class ChatWriter:
    """Writes one answer to a chat: whole, or the events of its stream.

    A chunk is for the most part the same as the one before: what surrounds a piece of text is
    written once for each of the ``n`` answers.
    """

    failure = staticmethod(sse.error_event)

    def __init__(self, head: Head, *, n: int, logprobs: bool, include_usage: bool) -> None:
        self._head = head
        self._n = n
        self._logprobs = logprobs
        self._include_usage = include_usage
        start = orjson.dumps(head.fields("chat.completion.chunk"))[:-1] + b',"choices":['
        self._start = b"data: " + start
        # With a usage chunk to come, the other chunks say that they are not it.
        self._end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._before_text = [
            b'%b{"index":%d,"delta":{"content":' % (self._start, index) for index in range(n)
        ]
        self._after_text = b'},"logprobs":null,"finish_reason":null}' + self._end

    def whole(self, completion: Completion) -> bytes:
        """The body of an answer that is not streamed."""
        body = {
            **self._head.fields("chat.completion"),
            "choices": [_choice(answer, self._logprobs) for answer in completion.answers],
            "usage": usage(completion.usage),
        }
        if completion.prompt_logprobs:
            body["prompt_logprobs"] = [p and _by_id(p) for p in completion.prompt_logprobs]
        return orjson.dumps(body)

    def opening(self) -> bytes:
        """The first chunk of each answer, with the role."""
        role = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(index, role, None, None) for index in range(self._n))

    def batch(self, deltas: Sequence[Delta]) -> bytes:
        """The chunks of a batch of deltas, as one piece."""
        if len(deltas) == 1:
            return self.delta(deltas[0])
        return b"".join(map(self.delta, deltas))

    def delta(self, delta: Delta) -> bytes:
        """The chunks of one delta: one for what is new, one for the finish."""
        if (
            delta.finish_reason is None
            and not delta.reasoning
            and not delta.tool_calls
            and not delta.logprobs
        ):
            if not delta.content:
                return b""
            text = orjson.dumps(delta.content)
            return self._before_text[delta.index] + text + self._after_text
        return self._other(delta)

    def closing(self, counted: Usage) -> bytes:
        """The chunk that has the usage and no choices, if it is wanted, and the end."""
        if not self._include_usage:
            return sse.DONE
        return b'%b],"usage":%b}\n\n%b' % (self._start, orjson.dumps(usage(counted)), sse.DONE)

    def _other(self, delta: Delta) -> bytes:
        fields: dict[str, Any] = {}
        if delta.content or (delta.logprobs and not delta.reasoning):
            fields["content"] = delta.content
        if delta.reasoning:
            fields["reasoning_content"] = fields["reasoning"] = delta.reasoning
        if delta.tool_calls:
            fields["tool_calls"] = [_tool_call(call) for call in delta.tool_calls]
        written = b""
        if fields:
            logprobs = _logprobs(delta.logprobs) if self._logprobs and delta.logprobs else None
            written = self._chunk(delta.index, fields, logprobs, None)
        if delta.finish_reason is not None:
            written += self._chunk(delta.index, {}, None, delta.finish_reason)
        return written

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None,
        finish_reason: str | None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return self._start + orjson.dumps(choice) + self._end


def _tool_call(call: ToolCallDelta) -> dict[str, Any]:
    """An increment of a call; the first one of a call has its id, type and name."""
    function: dict[str, Any] = {"arguments": call.arguments}
    if call.name is None:
        return {"index": call.index, "function": function}
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, **function},
    }
