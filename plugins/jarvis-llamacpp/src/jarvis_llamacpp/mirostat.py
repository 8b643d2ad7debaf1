"""Mirostat: keeps the surprise of a text near a target.

Source: Basu et al., https://arxiv.org/abs/2007.14966; version 2 as in llama.cpp,
src/llama-sampler.cpp, llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import math

import numpy as np

from jarvis_llamacpp.filters import Ids, Weights
from jarvis_llamacpp.params import MirostatParams

_ZIPF_TOKENS = 100
"""Likeliest tokens from which version 1 estimates how fast probabilities fall."""


class Mirostat:
    """Chooses tokens so that their surprise, in bits, is the target on average.

    Attributes:
        limit: Bits of surprise that a token may have now, at most.
    """

    def __init__(self, params: MirostatParams) -> None:
        self._params = params
        self.limit = 2 * params.tau

    def choose(self, ids: Ids, weights: Weights, vocabulary: int, mark: float) -> int:
        """Choose a token.

        Args:
            ids: Token ids that may be drawn.
            weights: Their probabilities up to a factor.
            vocabulary: Tokens of the whole vocabulary.
            mark: A random number, in [0, 1).
        """
        order = np.argsort(-weights, kind="stable")
        order = order[weights[order] > 0]
        shares = weights[order].astype(np.float64)
        shares /= shares.sum()
        if self._params.version == 1:
            count = self._count(shares, vocabulary)
        else:
            count = int((-np.log2(shares) <= self.limit).sum())
        kept = shares[: max(1, count)]
        kept = kept / kept.sum()
        at = min(int(kept.cumsum().searchsorted(mark, side="right")), len(kept) - 1)
        surprise = -math.log2(kept[at])
        self.limit -= self._params.eta * (surprise - self._params.tau)
        return int(ids[order[at]])

    def _count(self, shares: Weights, vocabulary: int) -> int:
        """Tokens to keep in version 1, from the exponent of Zipf's law for these shares."""
        head = shares[:_ZIPF_TOKENS]
        if len(head) < 2:
            return len(head)
        steps = np.arange(len(head) - 1)
        distance = np.log((steps + 2) / (steps + 1))
        fall = np.log(head[:-1] / head[1:])
        exponent = float((distance * fall).sum() / (distance * distance).sum())
        over = exponent - 1
        if exponent < 1e-6:
            return len(shares)
        try:
            mass = (1 - vocabulary**-over) / over if abs(over) > 1e-9 else math.log(vocabulary)
            ratio = 2**self.limit / mass
            return int(min(ratio ** (1 / exponent), len(shares)))
        except OverflowError:
            return len(shares)
