"""States outside the KV cache: what is found, what is given up, and how much is kept."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jarvis_llamacpp.sequence import Tokens
from jarvis_llamacpp.store import StateStore


def ids(*tokens: int) -> Tokens:
    return np.asarray(tokens, np.int32)


def put(
    store: StateStore, tokens: Tokens, *, salt: str | None = None, size: int = 100, replace: bool
) -> None:
    store.put(tokens, salt, np.zeros(size, np.uint8), replace=replace)


def test_the_longest_common_prefix_is_found() -> None:
    store = StateStore(10_000)
    for tokens in (ids(1, 2, 3, 4), ids(1, 2, 9), ids(5, 6), ids(1, 300, 2)):
        put(store, tokens, replace=True)
    found, common = store.find(ids(1, 2, 3, 7, 8), None, whole=False)

    assert found is not None
    assert (found.tokens.tolist(), common) == ([1, 2, 3, 4], 3)
    assert store.find(ids(7), None, whole=False) == (None, 0)


@pytest.mark.parametrize("seed", range(5))
def test_no_prefix_is_longer_than_the_one_that_is_found(seed: int) -> None:
    rng = random.Random(seed)
    store = StateStore(10**6)
    kept = [[rng.randrange(3) for _ in range(rng.randint(1, 12))] for _ in range(40)]
    for tokens in kept:
        put(store, ids(*tokens), replace=False)
    for _ in range(40):
        wanted = [rng.randrange(3) for _ in range(rng.randint(1, 12))]
        _, common = store.find(ids(*wanted), None, whole=False)

        assert common == max(shared(tokens, wanted) for tokens in kept)


def shared(a: list[int], b: list[int]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


def test_where_only_whole_states_count_a_longer_one_is_not_found() -> None:
    store = StateStore(10_000)
    put(store, ids(1, 2), replace=False)
    put(store, ids(1, 2, 3, 4), replace=False)

    assert store.find(ids(1, 2, 3, 5), None, whole=True)[1] == 2
    assert store.find(ids(1, 2, 3, 4, 5), None, whole=True)[1] == 4
    assert store.find(ids(1, 5), None, whole=True) == (None, 0)


def test_salts_share_nothing() -> None:
    store = StateStore(10_000)
    put(store, ids(1, 2, 3), salt="a", replace=True)

    assert store.find(ids(1, 2, 3), "b", whole=False) == (None, 0)
    assert not store.holds(ids(1, 2), None)
    assert store.holds(ids(1, 2), "a")


def test_a_conversation_replaces_its_own_beginning() -> None:
    store = StateStore(10_000)
    for tokens in (ids(1), ids(1, 2, 3), ids(1, 2, 4), ids(1, 2, 3, 4, 5)):
        put(store, tokens, replace=True)

    assert len(store) == 2
    assert store.holds(ids(1, 2, 4), None)
    assert store.holds(ids(1, 2, 3, 4), None)


def test_those_unused_the_longest_are_given_up_first() -> None:
    store = StateStore(3 * 124)
    for token in (1, 2, 3):
        put(store, ids(token, 0, 0), replace=True)
    assert store.holds(ids(1), None)
    put(store, ids(4, 0, 0), replace=True)

    assert [store.holds(ids(token), None) for token in (1, 2, 3, 4)] == [True, False, True, True]
    assert store.used == 3 * 124


def test_a_state_over_the_limit_is_not_kept() -> None:
    store = StateStore(100)
    put(store, ids(1, 2), size=200, replace=True)

    assert (len(store), store.used) == (0, 0)


def test_nothing_is_left_after_clearing() -> None:
    store = StateStore(1000)
    put(store, ids(1, 2), replace=True)
    store.clear()

    assert (len(store), store.used) == (0, 0)
    assert store.find(ids(1, 2), None, whole=False) == (None, 0)
