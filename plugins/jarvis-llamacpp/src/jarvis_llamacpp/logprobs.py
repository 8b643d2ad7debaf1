"""How likely tokens were, before sampling changed the logits."""

from __future__ import annotations

import numpy as np

from jarvis_core import TokenLogprob
from jarvis_llamacpp.filters import Row, top_ids
from jarvis_llamacpp.vocabulary import Vocabulary

_LEAST = -9999.0
"""Stands for impossible: JSON has no infinity."""


class LogprobReader:
    """Turns a row of logits into log-probabilities; made before the sampler changes the row.

    Args:
        row: Logits, float32, shape ``(vocabulary,)``.
        top: How many of the likeliest tokens to tell.
        vocabulary: The model's vocabulary.
    """

    def __init__(self, row: Row, top: int, vocabulary: Vocabulary) -> None:
        best = float(row.max())
        shift = best + float(np.log(np.exp(row - np.float32(best)).sum(dtype=np.float64)))
        self._logprobs = row.astype(np.float64) - shift
        self._vocabulary = vocabulary
        self._top: list[int] = []
        if top:
            ids = top_ids(row, best, top)
            order = np.argsort(-row[ids], kind="stable")[:top]
            self._top = ids[order].tolist()

    def of(self, token: int) -> TokenLogprob:
        """The chosen token with the likeliest ones."""
        return self._one(token, tuple(self._one(t) for t in self._top))

    def _one(self, token: int, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        data = self._vocabulary.pieces[token]
        return TokenLogprob(
            token_id=token,
            token=data.decode("utf-8", "replace"),
            logprob=max(_LEAST, float(self._logprobs[token])),
            data=data,
            top=top,
        )
