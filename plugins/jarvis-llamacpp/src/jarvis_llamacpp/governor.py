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

    Only steps that just continue sequences are compared: they are short, and every answer has them.
    What one thread takes for such a step is measured once, and again whenever all threads seem to
    be slower: a step takes longer in a longer conversation too.

    Args:
        threads: As many as there may be.
        sequences: Sequences that one step can continue: a step of more tokens reads prompts.
        clock: Seconds that only grow.

    Attributes:
        alone: Whether steps are computed with one thread for now.
    """

    def __init__(
        self, threads: int, sequences: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.alone = False
        self._threads = threads
        self._sequences = sequences
        self._clock = clock
        self._with_one: dict[int, float] = {}
        self._seen: set[int] = set()
        self._slow: dict[int, list[float]] = {}
        self._pause = SHORTEST
        self._until = 0.0

    def choose(self, tokens: int) -> int:
        """Threads for a step of so many tokens."""
        size = tokens.bit_length()
        if self.alone:
            waits = self._clock() < self._until or size not in self._with_one
            return 1 if waits else self._threads
        # The second step of a size is computed with one thread, to know what to compare with.
        unknown = size in self._seen and size not in self._with_one
        return 1 if unknown or self._doubts(size) else self._threads

    def note(self, tokens: int, threads: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            tokens: Of the step.
            threads: That ``choose`` gave it.
            seconds: That it took.
        """
        if tokens > self._sequences:
            return
        size = tokens.bit_length()
        self._seen.add(size)
        with_one = self._with_one.get(size)
        if threads > 1:
            if with_one is not None:
                self._compare(size, seconds, slower=seconds > with_one)
        elif self._doubts(size):
            self._with_one[size] = seconds
            self._decide(pays=seconds < min(self._slow[size]))
        else:
            before = seconds if with_one is None else with_one
            self._with_one[size] = before + _LATEST * (seconds - before)

    def _doubts(self, size: int) -> bool:
        """Whether the next step of a size is to show if one thread pays."""
        return len(self._slow.get(size, ())) >= PATIENCE

    def _compare(self, size: int, seconds: float, *, slower: bool) -> None:
        """Learn from a step with all threads."""
        if not slower:
            self.alone, self._pause = False, SHORTEST
            self._slow.clear()
        elif self.alone:
            self._pause = min(2 * self._pause, LONGEST)
            self._until = self._clock() + self._pause
        else:
            self._slow.setdefault(size, []).append(seconds)

    def _decide(self, *, pays: bool) -> None:
        """Learn from the step that was to show whether one thread pays."""
        self.alone = pays
        self._slow.clear()
        self._until = self._clock() + self._pause
