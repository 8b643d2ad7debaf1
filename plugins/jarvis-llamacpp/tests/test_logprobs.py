"""How likely tokens were."""

from __future__ import annotations

import numpy as np
import pytest

from jarvis_llamacpp.logprobs import LogprobReader
from jarvis_llamacpp.vocabulary import Vocabulary

LETTERS = Vocabulary(pieces=tuple(bytes([i]) for i in range(256)))


def test_logprobs_are_the_natural_logarithms_of_probabilities() -> None:
    row = np.log(np.array([0.5, 0.25, 0.125, 0.125] + [1e-30] * 252, np.float32)) + 7
    found = LogprobReader(row, 2, LETTERS).of(1)

    assert found.logprob == pytest.approx(np.log(0.25), abs=1e-4)
    assert [t.token_id for t in found.top] == [0, 1]
    assert [t.logprob for t in found.top] == pytest.approx(np.log([0.5, 0.25]), abs=1e-4)


def test_later_changes_of_the_row_do_not_count() -> None:
    row = np.zeros(256, np.float32)
    reader = LogprobReader(row, 0, LETTERS)
    row[3] = 100

    assert reader.of(3).logprob == pytest.approx(-np.log(256))
    assert reader.of(3).top == ()


def test_bytes_that_are_no_text_are_kept_beside_their_replacement() -> None:
    found = LogprobReader(np.zeros(256, np.float32), 0, LETTERS).of(0xFF)

    assert (found.token, found.data) == ("\ufffd", b"\xff")


def test_an_impossible_token_has_a_number_that_json_can_hold() -> None:
    row = np.zeros(256, np.float32)
    row[5] = -np.inf

    assert LogprobReader(row, 0, LETTERS).of(5).logprob == -9999.0
