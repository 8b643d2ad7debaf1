"""Makes tokens less likely that were there already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jarvis_core import SamplingParams
from jarvis_llamacpp.filters import Row


class Penalties:
    """The repetition, presence and frequency penalties of one continuation.

    Args:
        params: Sampling params.
        prompt: Token ids of the prompt: the repetition penalty counts them too.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int]) -> None:
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._seen = np.unique(np.asarray(prompt, np.intp))
        self._seen_set = set(self._seen.tolist())
        self._new: list[int] = []
        self._counts: dict[int, int] = {}

    def add(self, token: int) -> None:
        """Note a token that was chosen."""
        self._counts[token] = self._counts.get(token, 0) + 1
        if token not in self._seen_set:
            self._seen_set.add(token)
            self._new.append(token)

    def apply(self, row: Row) -> None:
        """Change logits, float32, shape ``(vocabulary,)``."""
        if self._repetition != 1:
            if self._new:
                self._seen = np.concatenate([self._seen, np.asarray(self._new, np.intp)])
                self._new.clear()
            logits = row[self._seen]
            factor = np.float32(self._repetition)
            row[self._seen] = np.where(logits > 0, logits / factor, logits * factor)
        if self._counts and (self._presence or self._frequency):
            ids = np.fromiter(self._counts.keys(), np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            row[ids] -= np.float32(self._frequency) * counts + np.float32(self._presence)


def penalizes(params: SamplingParams) -> bool:
    """Whether any of the three is on."""
    return (
        params.repetition_penalty != 1
        or params.presence_penalty != 0
        or params.frequency_penalty != 0
    )
