"""The arrays that llama.cpp reads."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from jarvis_llamacpp.batch import Batch


def test_chunks_and_single_tokens_lie_behind_each_other() -> None:
    batch = Batch(8)
    batch.add_chunk(3, 10, np.array([7, 8, 9], np.int32), last_wanted=True)
    batch.add_each([1, 2], [40, 50], [5, 6])

    assert batch.size == 5
    assert batch.rows == 3
    assert batch.token[:5].tolist() == [7, 8, 9, 5, 6]
    assert batch.pos[:5].tolist() == [10, 11, 12, 40, 50]
    assert batch.seq[:5].tolist() == [3, 3, 3, 1, 2]
    assert batch.wanted[:5].tolist() == [0, 0, 1, 1, 1]


def test_nothing_of_the_step_before_is_left() -> None:
    batch = Batch(4)
    batch.add_each([1, 2], [4, 5], [6, 7])
    batch.clear()
    batch.add_chunk(0, 0, np.array([1, 2, 3], np.int32), last_wanted=False)

    assert (batch.size, batch.rows) == (3, 0)
    assert batch.wanted[:3].tolist() == [0, 0, 0]


def test_each_address_points_at_its_tokens_sequence() -> None:
    batch = Batch(4)
    batch.add_each([9, 8, 7], [0, 0, 0], [1, 1, 1])
    found = [ctypes.c_int32.from_address(int(a)).value for a in batch.seq_address[:3]]

    assert found == [9, 8, 7]
    assert batch.seq_count.tolist() == [1, 1, 1, 1]


def test_too_many_tokens_are_a_mistake_of_the_caller() -> None:
    batch = Batch(2)
    with pytest.raises(ValueError, match="3 tokens do not fit in a batch of 2"):
        batch.add_each([0, 1, 2], [0, 0, 0], [1, 1, 1])
