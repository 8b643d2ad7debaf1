"""How likely tokens were, from vLLM's shape to the core's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jarvis_core import TokenLogprob

_LEAST = -9999.0
"""Stands for impossible: JSON has no infinity."""


class LogprobReader:
    """Reads logprobs of one model.

    Args:
        pieces: Bytes of each token.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def of(self, token_id: int, found: Mapping[int, Any], top: int) -> TokenLogprob:
        """The logprob of a token that came.

        Args:
            token_id: The token.
            found: vLLM's logprobs at its place by token id: the token's own and the likeliest.
            top: How many of the likeliest to tell.
        """
        ranked = sorted(found.items(), key=lambda item: item[1].rank or 0)[:top]
        return self._one(
            token_id,
            found[token_id].logprob,
            tuple(self._one(i, logprob.logprob) for i, logprob in ranked),
        )

    def prompt(
        self, ids: Sequence[int], found: Sequence[Mapping[int, Any] | None], top: int
    ) -> tuple[TokenLogprob | None, ...]:
        """One for each token of a prompt; the first has none.

        Args:
            ids: The prompt.
            found: vLLM's logprobs of it.
            top: How many of the likeliest to tell.
        """
        return tuple(
            None if at is None else self.of(token_id, at, top)
            for token_id, at in zip(ids, found, strict=True)
        )

    def _one(
        self, token_id: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
    ) -> TokenLogprob:
        data = self._pieces[token_id]
        return TokenLogprob(
            token_id=token_id,
            token=data.decode("utf-8", "replace"),
            logprob=max(_LEAST, logprob),
            data=data,
            top=top,
        )
