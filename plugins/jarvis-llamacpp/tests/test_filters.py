"""Filters of candidates, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from jarvis_llamacpp.filters import Row, typical, without_top_choices


def shares_of(row: Row) -> list[float]:
    shares = np.exp(row.astype(np.float64))
    return list(shares / shares.sum())


def test_typical_keeps_what_surprises_as_expected() -> None:
    shares = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    ids = np.array([10, 11, 12, 13, 14])
    # The expected surprise is 1.36 nats; 0.2 surprises by 1.61, 0.5 by 0.69, 0.1 by 2.30.
    assert typical(ids, shares, 0.1)[0].tolist() == [11]
    assert typical(ids, shares, 0.3)[0].tolist() == [11, 10]
    assert sorted(typical(ids, shares, 1.0)[0].tolist()) == ids.tolist()


def test_typical_leaves_impossible_tokens_out() -> None:
    ids, weights = typical(np.array([1, 2, 3]), np.array([1.0, 0.0, 1.0]), 1.0)

    assert ids.tolist() == [1, 3]
    assert weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("threshold", "left"), [(0.05, [2, 3, 4]), (0.15, [1, 2, 3, 4]), (0.3, [0, 1, 2, 3, 4])]
)
def test_top_choices_but_the_least_of_them_are_left_out(threshold: float, left: list[int]) -> None:
    row = np.log(np.array([0.5, 0.24, 0.13, 0.125 / 2, 0.005], np.float32))
    row[2:4] = np.log(np.array([0.13, 0.045], np.float32))
    ids, weights = without_top_choices(np.arange(5), np.ones(5), row, threshold)

    assert ids.tolist() == left
    assert len(weights) == len(left)


def test_the_order_of_candidates_does_not_matter_for_top_choices() -> None:
    row = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    ids, _ = without_top_choices(np.array([7, 8, 9]), np.ones(3), row, 0.2)

    assert ids.tolist() == [7, 9]
