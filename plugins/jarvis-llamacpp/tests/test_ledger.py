"""The books of the KV cache."""

from __future__ import annotations

import pytest

from jarvis_llamacpp.ledger import KvLedger


def test_new_cells_are_counted_once_and_come_back() -> None:
    ledger = KvLedger(sequences=2, cells=100, longest=60)
    ledger.extend(0, 40)
    ledger.extend(1, 10)

    assert (ledger.free, ledger.length(0), ledger.length(1)) == (50, 40, 10)
    ledger.truncate(0, 5)
    assert (ledger.free, ledger.length(0)) == (85, 5)


def test_shared_cells_are_free_only_when_the_last_holder_lets_go() -> None:
    ledger = KvLedger(sequences=2, cells=100, longest=60)
    ledger.extend(0, 40)
    ledger.share(0, 1, 30)

    assert ledger.free == 60
    ledger.truncate(0, 0)
    assert ledger.free == 70
    ledger.truncate(1, 0)
    assert ledger.free == 100


def test_live_cells_are_those_of_live_sequences_each_counted_once() -> None:
    ledger = KvLedger(sequences=3, cells=100, longest=60)
    ledger.extend(0, 40)
    assert ledger.live == 0
    ledger.set_live(1, True)
    ledger.share(0, 1, 30)
    ledger.extend(1, 5)
    assert ledger.live == 35
    ledger.set_live(0, True)
    assert ledger.live == 45
    ledger.set_live(1, False)
    assert ledger.live == 40


def test_one_cell_for_each_of_several_sequences() -> None:
    ledger = KvLedger(sequences=3, cells=100, longest=60)
    for seq in (0, 2):
        ledger.set_live(seq, True)
        ledger.extend(seq, 3 + seq)
    ledger.extend_each([2, 0])

    assert (ledger.length(0), ledger.length(2), ledger.live, ledger.free) == (4, 6, 10, 90)
    ledger.truncate(2, 0)
    assert (ledger.live, ledger.free) == (4, 96)


def test_more_cells_than_are_free_are_a_mistake_of_the_caller() -> None:
    ledger = KvLedger(sequences=1, cells=10, longest=60)
    with pytest.raises(ValueError, match="11 cells are wanted and 10 are free"):
        ledger.extend(0, 11)


def test_clearing_frees_everything() -> None:
    ledger = KvLedger(sequences=2, cells=10, longest=10)
    ledger.set_live(0, True)
    ledger.extend(0, 6)
    ledger.share(0, 1, 6)
    ledger.clear()

    assert (ledger.free, ledger.live, ledger.length(0), ledger.length(1)) == (10, 0, 0, 0)
    ledger.extend(0, 10)
    assert ledger.live == 0
