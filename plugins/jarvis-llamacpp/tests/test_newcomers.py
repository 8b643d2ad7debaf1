"""Which requests stop the step that is computed."""

from __future__ import annotations

import threading

import pytest

from jarvis_llamacpp.newcomers import Newcomers


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def test_who_comes_during_a_step_stops_it_if_it_is_more_urgent(stop: threading.Event) -> None:
    newcomers = Newcomers()
    newcomers.begin_step(5, stop)
    newcomers.come(5)
    assert not stop.is_set()
    newcomers.come(4)
    assert stop.is_set()


def test_who_came_while_the_step_was_planned_stops_it_at_its_beginning(
    stop: threading.Event,
) -> None:
    newcomers = Newcomers()
    newcomers.come(4)
    newcomers.begin_step(5, stop)
    assert stop.is_set()


def test_who_was_known_when_the_step_was_planned_does_not_stop_it(stop: threading.Event) -> None:
    newcomers = Newcomers()
    newcomers.come(4)
    newcomers.enter(4)
    newcomers.begin_step(5, stop)
    assert not stop.is_set()


@pytest.mark.parametrize("limit", [None, 5])
def test_a_step_that_makes_no_way_or_has_ended_is_not_stopped(
    stop: threading.Event, limit: int | None
) -> None:
    newcomers = Newcomers()
    newcomers.begin_step(limit, stop)
    if limit is not None:
        newcomers.end_step()
    newcomers.come(-1000)
    assert not stop.is_set()
