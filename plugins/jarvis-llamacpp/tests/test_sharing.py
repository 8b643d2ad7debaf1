"""Who gives way to whom, without a model; the engine of ``test_scheduler.py`` computes."""

from __future__ import annotations

import numpy as np
import pytest

from jarvis_core import Share
from jarvis_llamacpp.sequence import Sequence
from jarvis_llamacpp.sharing import MOST_STOPPED, PART, QUANTUM, Sharing


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Places:
    """Who runs and who waits, as a scheduler would have it."""

    def __init__(self, *running: Sequence) -> None:
        self.clock = Clock()
        self.sharing: Sharing[Sequence] = Sharing(self.clock)
        self.running = list(running)
        for sequence in running:
            self.sharing.began_to_wait(sequence)
            self.sharing.got_place(sequence)

    def comes(self, sequence: Sequence) -> Sequence | None:
        self.sharing.began_to_wait(sequence)
        return self.gives_way(sequence)

    def gives_way(self, sequence: Sequence) -> Sequence | None:
        return self.sharing.who_gives_way(sequence, self.running)

    def swap(self, out: Sequence, into: Sequence) -> None:
        self.running.remove(out)
        self.sharing.began_to_wait(out)
        self.sharing.got_place(into)
        self.running.append(into)


def one(name: str, *, order: int = 0, priority: int = 0, others: int = 0) -> Sequence:
    share = Share(name=name, priority=priority, others=others)
    return Sequence(
        tokens=np.zeros(1, np.int32), prompt_length=1, length=1, order=(0, order), share=share
    )


def test_the_last_of_who_has_most_gives_way() -> None:
    first, last = one("many", order=1, others=9), one("many", order=2, others=9)
    places = Places(one("few", order=3), first, last)

    assert places.comes(one("new", order=4)) is last


def test_nobody_gives_way_to_who_has_a_place() -> None:
    places = Places(one("many", others=9), one("many", others=9), one("few"))

    assert places.comes(one("few", order=4)) is None


def test_nobody_gives_way_to_who_shares_nothing() -> None:
    places = Places(one("many", others=9))

    assert places.comes(Sequence(tokens=np.zeros(1, np.int32), prompt_length=1, length=1)) is None


def test_nobody_gives_way_to_one_of_a_larger_priority() -> None:
    urgent, patient = one("urgent"), one("patient", priority=5)

    assert Places(urgent).comes(one("nightly", priority=10)) is None
    assert Places(urgent, patient).comes(one("nightly", priority=5)) is patient


def test_a_crowd_waits_for_its_turn_where_nobody_has_more() -> None:
    single = one("single")
    places = Places(single)
    crowd = one("crowd", others=5)

    assert places.comes(crowd) is None
    places.clock.now += QUANTUM
    assert places.gives_way(crowd) is single


@pytest.mark.parametrize(("others", "at_once"), [(0, True), (4, True), (5, False), (6, False)])
def test_a_newcomer_begins_at_once_if_it_is_alone_or_of_fewer(others: int, at_once: bool) -> None:
    places = Places(one("crowd", others=5))

    assert (places.comes(one("new", others=others)) is not None) is at_once


def test_two_that_never_end_have_the_place_by_turns() -> None:
    a, b = one("a"), one("b")
    places = Places(a)
    assert places.comes(b) is a
    places.swap(a, b)
    turns = []
    for _ in range(40):
        places.clock.now += QUANTUM / 4
        waiting = a if b in places.running else b
        if (other := places.gives_way(waiting)) is not None:
            places.swap(other, waiting)
            turns.append(waiting)

    assert turns == [a, b] * 5


def test_what_gave_way_is_left_alone_for_a_part_of_the_time_that_it_waited() -> None:
    a, b = one("a", others=9), one("b")
    places = Places(a)
    places.swap(a, b)
    places.clock.now += 0.8
    places.swap(b, a)
    c = one("c")

    assert places.comes(c) is None
    places.clock.now += 0.8 / PART
    assert places.gives_way(c) is a


def test_what_was_lost_once_gives_way_no_more() -> None:
    a = one("a", others=9)
    a.stays = True
    places = Places(a)

    assert places.comes(one("b")) is None


def test_who_has_waited_for_a_whole_turn_is_next() -> None:
    places = Places(one("x"))
    old, crowd, single = one("old", order=9, others=3), one("crowd", others=2), one("single")
    places.comes(old)
    places.clock.now += QUANTUM
    places.comes(crowd)
    places.comes(single)
    again = one("x", order=1)
    places.comes(again)

    in_turn = places.sharing.in_turn([again, crowd, single, old], places.running)
    assert in_turn == [old, single, crowd, again]


def test_a_more_urgent_key_comes_before_who_has_waited() -> None:
    places = Places()
    nightly, urgent = one("nightly", priority=10), one("urgent")
    places.comes(nightly)
    places.clock.now += 2 * QUANTUM
    places.comes(urgent)

    assert places.sharing.in_turn([nightly, urgent], []) == [urgent, nightly]


def test_a_step_is_stopped_again_and_again_for_a_while_only() -> None:
    places = Places()
    a = one("a", others=9)

    assert places.sharing.may_be_stopped(a)
    for _ in range(4):
        places.sharing.was_stopped(a)
        assert places.sharing.may_be_stopped(a)
        places.clock.now += MOST_STOPPED / 4
    assert not places.sharing.may_be_stopped(a)


def test_only_a_lone_newcomer_beside_others_is_read_alone() -> None:
    lone, crowd = one("lone"), one("crowd", others=9)
    places = Places(lone, crowd)

    assert places.sharing.lone_newcomer([crowd, lone], places.running) is lone
    assert places.sharing.lone_newcomer([crowd], places.running) is None
    assert places.sharing.lone_newcomer([lone], [lone]) is None
    assert places.sharing.lone_newcomer([lone], [lone, one("lone")]) is None
