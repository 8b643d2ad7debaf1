"""One of a request's continuations: vLLM's outputs of it, and what they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jarvis_core import EngineError, EngineOutput, TextStream, TokenLogprob
from jarvis_vllm.constraint import Grammar
from jarvis_vllm.logprobs import LogprobReader


class Continuation:
    """Turns vLLM's tokens into text, and ends where a stop string does.

    Attributes:
        index: Which continuation of the request.
        generated: Tokens generated; an end token counts unless the grammar left nothing else.
        cached: Tokens of the prompt that vLLM found in its prefix cache.
        finished: Whether its last output was made.
        ended_here: Whether a stop string ended it, of which vLLM knows nothing.
    """

    def __init__(
        self,
        index: int,
        text: TextStream,
        *,
        min_tokens: int,
        logprobs: int | None,
        reader: LogprobReader,
        stop_texts: Mapping[int, str],
        grammar: Grammar | None = None,
    ) -> None:
        """Begin.

        Args:
            index: Which continuation of the request.
            text: Its text.
            min_tokens: Tokens before a stop string counts.
            logprobs: How many of the likeliest tokens to tell, None for no logprobs at all.
            reader: Reads logprobs.
            stop_texts: Stop strings that are control tokens, by the token id that vLLM stops at.
            grammar: What its text obeys.
        """
        self.index = index
        self.generated = 0
        self.cached = 0
        self.finished = False
        self.ended_here = False
        self._text = text
        self._min_tokens = min_tokens
        self._top = logprobs
        self._reader = reader
        self._stop_texts = stop_texts
        self._grammar = grammar
        self._written = ""
        self._unsent: list[int] = []
        self._unsent_logprobs: list[TokenLogprob] = []

    def read(self, output: Any) -> EngineOutput | None:
        """What a ``RequestOutput`` of vLLM adds; None if that is nothing certain yet.

        Raises:
            EngineError: vLLM gave the request up.
        """
        if output.num_cached_tokens:
            self.cached = output.num_cached_tokens
        (completion,) = output.outputs
        if completion.finish_reason in ("abort", "error"):
            raise EngineError("vLLM ended the request before it was answered")
        ids = completion.token_ids
        ended = completion.finish_reason == "stop" and len(ids) > 0
        text = self._add(ids[:-1] if ended else ids, completion.logprobs)
        reason: Literal["stop", "length"] | None = None
        stop_string = self._text.stop_string
        if self.ended_here:
            reason = "stop"
        elif completion.finish_reason is not None:
            text += self._text.finish()
            over = self._grammar is not None and self._grammar.ends_with(self._written + text)
            self.generated += ended and not over
            reason = "length" if completion.finish_reason == "length" else "stop"
            stop_string = self._stop_texts.get(completion.stop_reason)
        if self._grammar is not None:
            self._written += text
        if reason is not None:
            self.finished = True
        elif not text:
            return None
        return self._emit(text, reason, stop_string)

    def _add(self, ids: Sequence[int], logprobs: Sequence[Mapping[int, Any]] | None) -> str:
        texts = []
        for at, token_id in enumerate(ids):
            self.generated += 1
            self._unsent.append(token_id)
            if self._top is not None and logprobs is not None:
                self._unsent_logprobs.append(self._reader.of(token_id, logprobs[at], self._top))
            texts.append(self._text.add(token_id, may_stop=self.generated > self._min_tokens))
            if self._text.stop_string is not None:
                self.ended_here = True
                break
        return "".join(texts)

    def _emit(
        self, text: str, reason: Literal["stop", "length"] | None, stop_string: str | None
    ) -> EngineOutput:
        output = EngineOutput(
            index=self.index,
            text=text,
            token_ids=tuple(self._unsent),
            logprobs=tuple(self._unsent_logprobs),
            finish_reason=reason,
            stop_string=stop_string,
        )
        self._unsent.clear()
        self._unsent_logprobs.clear()
        return output
