from __future__ import annotations

from jarvis_llamacpp.governor import LONGEST, PATIENCE, ThreadGovernor


class Machine:
    """Computes steps; ``busy`` makes those of several threads slow, ``length`` all of them."""

    def __init__(self, threads: int = 4) -> None:
        self.now = 0.0
        self.busy = False
        self.length = 1.0
        self.governor = ThreadGovernor(threads, 16, clock=lambda: self.now)
        self.used: list[int] = []

    def steps(self, count: int, tokens: int = 1) -> list[int]:
        """Threads of each step."""
        start = len(self.used)
        for _ in range(count):
            threads = self.governor.choose(tokens)
            seconds = 0.010 if threads == 1 else 0.5 if self.busy else 0.004
            seconds *= self.length
            self.now += seconds
            self.governor.note(tokens, threads, seconds)
            self.used.append(threads)
        return self.used[start:]


def test_on_a_quiet_machine_one_step_of_each_size_is_computed_with_one_thread():
    machine = Machine()
    assert machine.steps(100) == [4, 1, *[4] * 98]
    assert machine.steps(3, tokens=16) == [4, 1, 4]


def test_on_a_busy_machine_it_falls_back_to_one_thread_soon():
    machine = Machine()
    machine.steps(10)
    machine.busy = True
    assert machine.steps(PATIENCE) == [4] * PATIENCE
    assert machine.steps(20) == [1] * 20
    assert machine.governor.alone


def test_longer_conversations_are_not_taken_for_a_busy_machine():
    machine = Machine()
    machine.steps(10)
    used = []
    for _ in range(60):
        machine.length *= 1.05  # 18 times as long in the end
        used += machine.steps(10)
        assert not machine.governor.alone
    assert used.count(1) <= 6


def test_steps_that_read_prompts_are_not_spent_on_comparing():
    machine = Machine()
    assert machine.steps(20, tokens=300) == [4] * 20
    machine.busy = True
    assert machine.steps(20, tokens=300) == [4] * 20
    machine.steps(2 + PATIENCE + 1)
    assert machine.governor.alone
    assert machine.steps(5, tokens=300) == [1] * 5


def test_a_machine_that_is_busy_from_the_start_is_found_out_too():
    machine = Machine()
    machine.busy = True
    assert machine.steps(2 + PATIENCE + 5) == [4, 1, *[4] * PATIENCE, *[1] * 5]


def test_all_threads_come_back_when_the_cores_are_free_again():
    machine = Machine()
    machine.busy = True
    machine.steps(10)
    machine.busy = False
    machine.steps(150)
    assert not machine.governor.alone
    assert machine.steps(5) == [4] * 5


def test_a_machine_that_stays_busy_is_tried_more_and_more_seldom():
    machine = Machine()
    machine.busy = True
    machine.steps(10)
    until = machine.now + 10 * LONGEST
    while machine.now < until:
        machine.steps(1)
    tried = sum(threads > 1 for threads in machine.used)
    assert PATIENCE + 5 <= tried <= 20


def test_one_slow_step_changes_nothing():
    machine = Machine()
    machine.steps(10)
    for _ in range(20):
        machine.busy = True
        machine.steps(1)
        machine.busy = False
        assert machine.steps(1) == [4]


def test_sizes_are_compared_with_their_like():
    machine = Machine()
    machine.steps(10)
    governor = machine.governor
    for _ in range(10):  # a step of more sequences takes longer than one of one with one thread
        governor.note(16, 4, 0.5)
    assert not governor.alone


def test_a_single_thread_is_never_more():
    machine = Machine(threads=1)
    assert machine.steps(20) == [1] * 20
