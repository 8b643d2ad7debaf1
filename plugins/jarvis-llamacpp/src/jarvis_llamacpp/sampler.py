"""Chooses the next token from logits, in the order that vLLM does.

The order: bias, tokens that may not come yet, penalties, temperature, min_p, top_k, top_p. Only
tokens that can be chosen are looked at closely: sorting a whole vocabulary takes a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from jarvis_core import EngineError, RequestError, SamplingParams

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]
Weights = npt.NDArray[np.floating[Any]]

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
    ) -> None:
        """Prepare for one continuation.

        Args:
            params: Sampling params, already checked with ``check_params``.
            prompt: Token ids of the prompt.
            end_ids: Ids that may not come before ``min_tokens``.
            index: Which of the request's continuations; each has its own random numbers.
        """
        self._params = params
        self._greedy = params.temperature < GREEDY_BELOW
        seed = params.seed
        self._random = Random(seed if seed is None or index == 0 else f"{seed}/{index}")
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.intp)
        self._bias = np.fromiter(params.logit_bias.values(), np.float32)
        self._blocked = np.fromiter(end_ids if params.min_tokens else (), np.intp)
        self._chosen = 0
        self._penalties = _Penalties(params, prompt) if _penalized(params) else None
        self.plain = (
            self._greedy
            and self._penalties is None
            and not len(self._bias_ids)
            and not len(self._blocked)
        )

    def choose(self, row: Row) -> int:
        """Choose a token, and remember it.

        Args:
            row: Logits, float32, shape ``(vocabulary,)``; they are changed.

        Raises:
            EngineError: No token has a finite logit.
        """
        blocked = None if self.plain else self._shape(row)
        token = int(row.argmax())
        if blocked is not None and not math.isfinite(row[token]):
            # A constraint allows nothing else, and it goes before ``min_tokens``.
            row[self._blocked] = blocked
            token = int(row.argmax())
        if not math.isfinite(row[token]):
            raise EngineError("the model gave no valid probabilities; its weights may be damaged")
        if not self._greedy:
            token = self._draw(row, float(row[token]))
        self._chosen += 1
        if self._penalties is not None:
            self._penalties.add(token)
        return token

    def _shape(self, row: Row) -> Row | None:
        """Change logits as the parameters ask; returns those of tokens that may not come yet."""
        blocked: Row | None = None
        if len(self._bias_ids):
            row[self._bias_ids] += self._bias
        if self._chosen < self._params.min_tokens and len(self._blocked):
            blocked = row[self._blocked]
            row[self._blocked] = -np.inf
        if self._penalties is not None:
            self._penalties.apply(row)
        return blocked

    def _draw(self, row: Row, best: float) -> int:
        params = self._params
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
            ids, weights = _nucleus(ids, weights, params.top_p * float(weights.sum()))
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
                    ids, weights = _nucleus(ids, weights, wanted)
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


class _Penalties:
    """Makes tokens less likely that were there already."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int]) -> None:
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._seen = np.unique(np.asarray(prompt, np.intp))
        self._seen_set = set(self._seen.tolist())
        self._new: list[int] = []
        self._counts: dict[int, int] = {}

    def add(self, token: int) -> None:
        self._counts[token] = self._counts.get(token, 0) + 1
        if token not in self._seen_set:
            self._seen_set.add(token)
            self._new.append(token)

    def apply(self, row: Row) -> None:
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


def check_params(params: SamplingParams, vocab_size: int) -> None:
    """Refuse values that cannot be.

    Raises:
        RequestError: It names the parameter.
    """
    ranges: dict[str, tuple[float, float]] = {
        "temperature": (0, 1e6),
        "top_p": (0, 1),
        "min_p": (0, 1),
        "top_k": (-1, math.inf),
        "repetition_penalty": (1e-6, 1e6),
        "presence_penalty": (-1e6, 1e6),
        "frequency_penalty": (-1e6, 1e6),
        "min_tokens": (0, math.inf),
        "max_tokens": (0, math.inf),
    }
    for name, (least, most) in ranges.items():
        value = getattr(params, name)
        if value is not None and not least <= value <= most:
            raise RequestError(f"{name} is {value}, it must be from {least} to {most}", param=name)
    for name, ids in (
        ("logit_bias", params.logit_bias.keys()),
        ("stop_token_ids", params.stop_token_ids),
    ):
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise RequestError(
                    f"token id {token_id} is not in the vocabulary of {vocab_size:,} tokens",
                    param=name,
                )
    if not all(math.isfinite(bias) for bias in params.logit_bias.values()):
        raise RequestError("a logit bias must be a finite number", param="logit_bias")


def top_ids(row: Row, best: float, count: int) -> Ids:
    """Ids of the ``count`` largest entries and of those equal to the last of them, unsorted.

    Args:
        row: Logits, float32, shape ``(vocabulary,)``.
        best: The largest of them.
        count: How many, at least 1.
    """
    if count >= len(row):
        return np.arange(len(row))
    span = 8.0
    while True:
        ids = np.flatnonzero(row >= best - span)
        if len(ids) >= count:
            break
        if span > 1e9:  # the others are impossible
            return ids
        span *= 4
    if len(ids) == count:
        return ids
    values = row[ids]
    last = np.partition(values, len(values) - count)[len(values) - count]
    largest: Ids = ids[values >= last]
    return largest


def _penalized(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty != 1
        or params.presence_penalty != 0
        or params.frequency_penalty != 0
    )


def _nucleus(ids: Ids, weights: Weights, wanted: float) -> tuple[Ids, Weights]:
    """The likeliest tokens that together reach ``wanted``, likeliest first; at least one."""
    order = np.argsort(-weights, kind="stable")
    sums = weights[order].cumsum(dtype=np.float64)
    count = int(sums.searchsorted(wanted, side="left")) + 1
    kept = order[:count]
    return ids[kept], weights[kept]
