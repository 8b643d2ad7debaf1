from __future__ import annotations

import asyncio

import pytest

from jarvis_core.models.restarts import LONGEST, STEADY, Restarts


def pauses(*lives: float | None, first: float = 1.0) -> list[float]:
    """The pause after each host that lived so long; None never became ready."""
    restarts, found = Restarts(first), []
    for lived in lives:
        restarts.died(lived)
        found.append(restarts.pause)
    return found


@pytest.mark.parametrize("lived", [None, 0.0, STEADY / 2])
def test_pauses_grow_while_hosts_die_young(lived: float | None) -> None:
    assert pauses(*[lived] * 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_it_makes_no_difference_whether_they_were_ready() -> None:
    assert pauses(None, 1.0, None, 1.0) == [1, 2, 4, 8]


def test_one_that_ran_well_is_replaced_at_once_and_its_row_is_forgotten() -> None:
    assert pauses(0.0, 0.0, STEADY, 0.0) == [1, 2, 0, 1]


@pytest.mark.parametrize(("first", "last"), [(0.0, 0.0), (2 * LONGEST, 2 * LONGEST)])
def test_the_first_pause_is_the_operators(first: float, last: float) -> None:
    found = pauses(*[0.0] * 5000, first=first)
    assert (found[0], found[-1]) == (first, last)


def test_only_starts_that_fail_one_after_the_other_count_as_such() -> None:
    restarts = Restarts(1.0)
    found = []
    for lived in (None, None, 0.0, None):
        restarts.died(lived)
        found.append(restarts.failed_starts)
    assert found == [1, 2, 0, 1]


@pytest.mark.anyio
async def test_a_pause_is_cut_short_while_it_lasts_and_not_by_what_was_asked_before() -> None:
    restarts = Restarts(60.0)
    restarts.died(0.0)
    restarts.hasten()
    waiting = asyncio.create_task(restarts.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    assert restarts.left > 50
    restarts.hasten()
    await asyncio.wait_for(waiting, 10)
    assert restarts.left == 0
