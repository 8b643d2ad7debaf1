"""Whole answers and stream chunks of a text completion: the same shape, unlike a chat's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from jarvis_core.http import sse
from jarvis_core.http.openai.answers import Head, least, usage
from jarvis_core.structs import Completion, Delta, TokenLogprob, Usage


class CompletionWriter:
    """Writes one answer to a completion request: whole, or the events of its stream."""

    failure = staticmethod(sse.error_event)

    def __init__(
        self, head: Head, *, answers: int, echo: bool, logprobs: bool, include_usage: bool
    ) -> None:
        """Write ``answers`` answers, of which each begins with its prompt if ``echo`` says so."""
        self._head = head.fields("text_completion")
        self._include_usage = include_usage
        self._logprobs = [_Logprobs(echo=echo) if logprobs else None for _ in range(answers)]

    def whole(self, completion: Completion) -> bytes:
        """The body of an answer that is not streamed."""
        choices = [
            self._choice(a.index, a.content or "", a.logprobs, a.finish_reason)
            for a in completion.answers
        ]
        return orjson.dumps({**self._head, "choices": choices, "usage": usage(completion.usage)})

    def opening(self) -> bytes:
        """Nothing: the first chunk has text."""
        return b""

    def batch(self, deltas: Sequence[Delta]) -> bytes:
        """One chunk for each delta that tells something."""
        return b"".join(map(self._chunk, deltas))

    def closing(self, counted: Usage) -> bytes:
        """The chunk that has the usage and no choices, if it is wanted, and the end."""
        if not self._include_usage:
            return sse.DONE
        last = {**self._head, "choices": [], "usage": usage(counted)}
        return sse.event(orjson.dumps(last)) + sse.DONE

    def _chunk(self, delta: Delta) -> bytes:
        choice = self._choice(delta.index, delta.content, delta.logprobs, delta.finish_reason)
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None  # this chunk is not the one that has it
        return sse.event(orjson.dumps(chunk))

    def _choice(
        self,
        index: int,
        text: str,
        logprobs: Sequence[TokenLogprob],
        finish_reason: str | None,
    ) -> dict[str, Any]:
        writer = self._logprobs[index]
        return {
            "index": index,
            "text": text,
            "logprobs": None if writer is None else writer.write(text, logprobs),
            "finish_reason": finish_reason,
        }


class _Logprobs:
    """The logprobs of one answer in their old shape: parallel lists, likeliest tokens by text.

    ``text_offset`` is where a token begins in the answer's text, in characters.
    """

    def __init__(self, *, echo: bool) -> None:
        self._at_prompt_start = echo
        self._offset = 0

    def write(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of the tokens behind the next piece of text."""
        offsets: list[int] = []
        values: list[float | None] = []
        likeliest: list[dict[str, float] | None] = []
        for logprob in logprobs:
            offsets.append(self._offset)
            if self._at_prompt_start:
                # Nothing comes before the first token of a prompt, so it has no probability. A
                # begin-of-sequence token is not in the text.
                self._at_prompt_start = False
                values.append(None)
                likeliest.append(None)
                self._offset += len(logprob.token) if text.startswith(logprob.token) else 0
                continue
            values.append(least(logprob.logprob))
            likeliest.append(_by_text(logprob))
            self._offset += len(logprob.token)
        return {
            "tokens": [logprob.token for logprob in logprobs],
            "token_logprobs": values,
            "top_logprobs": likeliest,
            "text_offset": offsets,
        }


def _by_text(logprob: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the chosen one; of two with the same text the likelier."""
    found: dict[str, float] = {}
    for top in (*logprob.top, logprob):
        found.setdefault(top.token, least(top.logprob))
    return found
