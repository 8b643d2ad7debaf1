"""Which tokens may be drawn: filters over the likeliest ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]
Weights = npt.NDArray[np.floating[Any]]


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


def nucleus(ids: Ids, weights: Weights, wanted: float) -> tuple[Ids, Weights]:
    """The likeliest tokens that together reach ``wanted``, likeliest first; at least one."""
    order = np.argsort(-weights, kind="stable")
    sums = weights[order].cumsum(dtype=np.float64)
    count = int(sums.searchsorted(wanted, side="left")) + 1
    kept = order[:count]
    return ids[kept], weights[kept]


def typical(ids: Ids, weights: Weights, share: float) -> tuple[Ids, Weights]:
    """Tokens whose surprise is nearest to the expected one, until they reach a share; at least one.

    Source: Meister et al., Locally Typical Sampling, https://arxiv.org/abs/2202.00666.

    Args:
        ids: Token ids that may be drawn.
        weights: Their probabilities up to a factor.
        share: Of their probability, in (0, 1].
    """
    ids, weights = ids[weights > 0], weights[weights > 0]
    shares = weights / weights.sum(dtype=np.float64)
    surprise = -np.log(shares)
    expected = float((shares * surprise).sum())
    order = np.argsort(np.abs(surprise - expected), kind="stable")
    sums = shares[order].cumsum(dtype=np.float64)
    kept = order[: int(sums.searchsorted(share, side="left")) + 1]
    return ids[kept], weights[kept]


def without_top_choices(
    ids: Ids, weights: Weights, logits: Row, threshold: float
) -> tuple[Ids, Weights]:
    """All but the likeliest tokens, as long as one at or over a threshold remains: XTC.

    Source: https://github.com/oobabooga/text-generation-webui/pull/6335; as in llama.cpp the
    threshold is of probabilities before the temperature.

    Args:
        ids: Token ids that may be drawn.
        weights: Their probabilities up to a factor.
        logits: Their logits, float32, in the same order.
        threshold: The least probability of a top choice.
    """
    shares = np.exp(logits.astype(np.float64) - float(logits.max()))
    top = np.flatnonzero(shares >= threshold * shares.sum())
    if len(top) < 2:
        return ids, weights
    kept = np.ones(len(ids), np.bool_)
    kept[top] = False
    kept[top[shares[top].argmin()]] = True
    return ids[kept], weights[kept]
