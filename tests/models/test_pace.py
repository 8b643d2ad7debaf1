from __future__ import annotations

from jarvis_core.models.pace import LONGEST, SHORTEST, Pace


def test_a_queue_that_never_moved_is_worth_another_try_soon():
    assert Pace(lambda: 0.0).until(100) == SHORTEST


def test_the_wait_grows_with_the_steps_and_the_seconds_between_them():
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(200):
        now += 0.5
        pace.step()
    assert round(pace.until(20)) == 10
    assert pace.until(1) == SHORTEST
    assert pace.until(10_000) == LONGEST
