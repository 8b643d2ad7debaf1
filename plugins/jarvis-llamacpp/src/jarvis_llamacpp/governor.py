"""Falls back to one thread while others use the cores.

Threads that compute one step wait for each other after every operation. If one of them has lost its
core to another program, all others wait, hundreds of times in a step: with two threads on two busy
cores SmolLM2 wrote 0.4 to 13 tokens a second where one thread wrote 55. Nobody can tell how long
cores stay busy, so what is compared is measured: a step with all threads against one with a
single thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST = 1.0
LONGEST = 16.0
"""Seconds with one thread before all of them are tried again; doubled as long as that fails."""

PATIENCE = 3
"""Slow steps in a row that count: one alone is an accident."""

_LATEST = 0.2
"""Weight of the latest step against those before."""


class ThreadGovernor:
    """Says with how many threads the next step is computed.

    Args:
        threads: As many as there may be.
        clock: Seconds that only grow.

    Attributes:
        alone: Whether steps are computed with one thread for now.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.alone = False
        self._threads = threads
        self._clock = clock
        self._with_one: dict[int, float] = {}
        self._seen: set[int] = set()
        self._slow = 0
        self._pause = SHORTEST
        self._until = 0.0

    def choose(self, tokens: int) -> int:
        """Threads for a step of so many tokens."""
        size = tokens.bit_length()
        if self.alone:
            waits = self._clock() < self._until or size not in self._with_one
            return 1 if waits else self._threads
        # The second step of a size is computed with one thread, to know what to compare with.
        return 1 if size in self._seen and size not in self._with_one else self._threads

    def note(self, tokens: int, threads: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            tokens: Of the step.
            threads: That ``choose`` gave it.
            seconds: That it took.
        """
        size = tokens.bit_length()
        self._seen.add(size)
        with_one = self._with_one.get(size)
        if threads == 1:
            before = seconds if with_one is None else with_one
            self._with_one[size] = before + _LATEST * (seconds - before)
        elif with_one is not None:
            self._compare(slower=seconds > with_one)

    def _compare(self, *, slower: bool) -> None:
        if not slower:
            self.alone, self._slow, self._pause = False, 0, SHORTEST
            return
        self._slow += 1
        if self.alone:
            self._pause = min(2 * self._pause, LONGEST)
        elif self._slow < PATIENCE:
            return
        self.alone = True
        self._until = self._clock() + self._pause
