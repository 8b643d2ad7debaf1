"""Chooses the next token from logits, in the order that vLLM does.

The order: bias, tokens that may not come, penalties, DRY, temperature, min_p, top_k, typical_p,
top_p, XTC, mirostat. Only tokens that can be chosen are looked at closely: sorting a whole
vocabulary takes a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

import numpy as np

from jarvis_core import EngineError, SamplingParams
from jarvis_llamacpp.bad_words import BadWords
from jarvis_llamacpp.dry import DryPenalty
from jarvis_llamacpp.filters import (
    Ids,
    Row,
    Weights,
    nucleus,
    top_ids,
    typical,
    without_top_choices,
)
from jarvis_llamacpp.mirostat import Mirostat
from jarvis_llamacpp.params import read_extra
from jarvis_llamacpp.penalties import Penalties, penalizes

GREEDY_BELOW = 1e-5
"""Temperatures under this are greedy, as in vLLM."""

_MANY = 4096
"""Candidates from which on single precision is enough: its error is below that of the logits."""


class Sampler:
    """Chooses the tokens of one continuation.

    Attributes:
        plain: Whether the likeliest token is always chosen and the logits are taken as they are.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        prompt: Sequence[int],
        end_ids: Iterable[int],
        index: int = 0,
        pieces: Sequence[bytes] = (),
        bad_words: Sequence[Sequence[int]] = (),
    ) -> None:
        """Prepare for one continuation.

        Args:
            params: Sampling params, already checked.
            prompt: Token ids of the prompt.
            end_ids: Ids that may not come before ``min_tokens``.
            index: Which of the request's continuations; each has its own random numbers.
            pieces: Bytes of each token of the vocabulary; DRY looks for its breakers in them.
            bad_words: Token ids of texts that must not come.
        """
        extra = read_extra(params.extra)
        self._params = params
        self._greedy = params.temperature < GREEDY_BELOW
        self._random = Random(None if params.seed is None else (params.seed + index) % 2**63)
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.intp)
        self._bias = np.fromiter(params.logit_bias.values(), np.float32)
        self._early = np.fromiter(end_ids if params.min_tokens else (), np.intp)
        self._chosen = 0
        self._bad_words = BadWords(bad_words) if bad_words else None
        self._memories: list[Penalties | DryPenalty] = []
        if penalizes(params):
            self._memories.append(Penalties(params, prompt))
        if extra.dry is not None:
            self._memories.append(DryPenalty(extra.dry, prompt, pieces))
        self._xtc = extra.xtc
        self._mirostat = Mirostat(extra.mirostat) if extra.mirostat else None
        self.plain = self._greedy and not (
            self._memories or self._bad_words or len(self._bias_ids) or len(self._early)
        )
        self._filtered = bool(self._mirostat or self._xtc or params.typical_p < 1)

    def choose(self, row: Row) -> int:
        """Choose a token, and remember it.

        Args:
            row: Logits, float32, shape ``(vocabulary,)``; they are changed.

        Raises:
            EngineError: No token has a finite logit.
        """
        if not self.plain:
            self._shape(row)
        token = int(row.argmax())
        if not math.isfinite(row[token]):
            raise EngineError("the model gave no valid probabilities; its weights may be damaged")
        if not self._greedy:
            token = self._draw(row, float(row[token]))
        self._chosen += 1
        if self._bad_words is not None:
            self._bad_words.add(token)
        for memory in self._memories:
            memory.add(token)
        return token

    def _shape(self, row: Row) -> None:
        """Change logits as the parameters ask."""
        if len(self._bias_ids):
            row[self._bias_ids] += self._bias
        banned = self._banned()
        if len(banned):
            before = row[banned]
            row[banned] = -np.inf
            if row.max() == -np.inf:
                row[banned] = before  # a constraint allows nothing else, and it goes first
        for memory in self._memories:
            memory.apply(row)

    def _banned(self) -> Ids:
        """Ids of tokens that may not come now."""
        early = self._early if self._chosen < self._params.min_tokens else self._early[:0]
        if self._bad_words is None:
            return early
        return np.concatenate([early, np.fromiter(self._bad_words.next_ids(), np.intp)])

    def _draw(self, row: Row, best: float) -> int:
        params = self._params
        if self._filtered:
            return self._draw_filtered(row, best)
        if params.top_k > 0:
            ids = top_ids(row, best, params.top_k)
        elif params.min_p > 0:
            ids = np.flatnonzero(row >= best + params.temperature * math.log(params.min_p))
        else:
            return self._draw_from_all(row, best)
        weights = self._weights(row[ids], best)
        if params.min_p > 0:
            weights[weights < params.min_p] = 0.0
        if params.top_p < 1:
            ids, weights = nucleus(ids, weights, params.top_p * float(weights.sum()))
        return self._pick(ids, weights, self._random.random() * float(weights.sum()))

    def _draw_filtered(self, row: Row, best: float) -> int:
        """Draw with the filters that need all probabilities at once."""
        params = self._params
        ids = (
            np.flatnonzero(row > -np.inf) if params.top_k < 1 else top_ids(row, best, params.top_k)
        )
        if params.min_p > 0:
            ids = ids[row[ids] >= best + params.temperature * math.log(params.min_p)]
        weights: Weights = self._weights(row[ids], best).astype(np.float64)
        if params.typical_p < 1:
            ids, weights = typical(ids, weights, params.typical_p)
        if params.top_p < 1:
            ids, weights = nucleus(ids, weights, params.top_p * float(weights.sum()))
        if self._xtc is not None and self._random.random() < self._xtc.probability:
            ids, weights = without_top_choices(ids, weights, row[ids], self._xtc.threshold)
        if self._mirostat is not None:
            return self._mirostat.choose(ids, weights, len(row), self._random.random())
        return self._pick(ids, weights, self._random.random() * float(weights.sum()))

    def _draw_from_all(self, row: Row, best: float) -> int:
        """Draw where every token can be chosen or the sum over all of them counts."""
        all_weights = self._weights(row, best)
        total = float(all_weights.sum())
        wanted = self._params.top_p * total
        mark = self._random.random()
        for least in (1e-3, 1e-6, 0.0):
            ids = np.flatnonzero(all_weights > least)
            weights = all_weights[ids]
            mass = float(weights.sum())
            if self._params.top_p < 1:
                if mass >= wanted or not least:
                    ids, weights = nucleus(ids, weights, wanted)
                    return self._pick(ids, weights, mark * float(weights.sum()))
            elif mark * total < mass or not least:
                # The likely tokens lie before all others, so the others need no look.
                return self._pick(ids, weights, mark * total)
        raise AssertionError("the last threshold always returns")

    def _weights(self, logits: Row, best: float) -> Weights:
        """Probabilities up to a factor; the likeliest token's is 1."""
        shifted = (logits - np.float32(best)) / np.float32(self._params.temperature)
        weights: Weights = np.exp(shifted, out=shifted)
        return weights if len(weights) > _MANY else weights.astype(np.float64)

    def _pick(self, ids: Ids, weights: Weights, mark: float) -> int:
        """The token in whose share of the sum ``mark`` lies."""
        sums = weights.cumsum(dtype=np.float64)
        at = int(sums.searchsorted(mark, side="right"))
        if at >= len(ids):  # rounding; the last token that can be chosen
            at = int(np.flatnonzero(weights)[-1])
        return int(ids[at])
