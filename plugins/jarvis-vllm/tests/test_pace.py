from __future__ import annotations

import pytest

from jarvis_vllm.pace import StepClock, tokens_at_once


@pytest.mark.parametrize("streams", [1, 8, 32])
def test_few_streams_get_each_token_alone(streams: int) -> None:
    assert tokens_at_once(streams, step=0.003, longest=0.05) == 1


def test_many_streams_of_a_fast_model_get_several_tokens_at_once() -> None:
    assert tokens_at_once(256, step=0.010, longest=0.05) == 2
    assert tokens_at_once(1024, step=0.020, longest=0.1) == 4


def test_no_token_waits_longer_than_it_may() -> None:
    assert tokens_at_once(1024, step=0.020, longest=0.05) == 2
    assert tokens_at_once(1024, step=0.060, longest=0.05) == 1
    assert tokens_at_once(1024, step=0.020, longest=0.0) == 1


def test_where_no_step_was_seen_each_token_goes_alone() -> None:
    assert tokens_at_once(1024, step=0.0, longest=0.05) == 1


def test_a_step_is_measured_by_what_lies_between_two_ends() -> None:
    clock = StepClock()
    clock.tick(5.0)
    assert clock.seconds == 0
    for at in range(1, 100):
        clock.tick(5.0 + 0.02 * at)
    assert clock.seconds == pytest.approx(0.02)


def test_a_pause_is_no_step() -> None:
    clock = StepClock()
    for now in (1.0, 1.02, 90.0, 90.02):
        clock.tick(now)
    assert clock.seconds == pytest.approx(0.02)
