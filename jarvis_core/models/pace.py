"""How fast a queue moves, so that a client who finds it full is told when to come back."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST = 1.0
LONGEST = 60.0
"""Seconds that a client is told to wait, at least and at most."""

_WEIGHT = 0.1
"""Of the latest step against all before."""


class Pace:
    """Seconds between two steps of a queue, the latest ones counting most.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._interval = 0.0

    def step(self) -> None:
        """Somebody left the queue."""
        now = self._clock()
        if self._last is not None:
            self._interval += _WEIGHT * (now - self._last - self._interval)
        self._last = now

    def until(self, steps: int) -> float:
        """Seconds, roughly, until that many have left the queue."""
        return min(LONGEST, max(SHORTEST, steps * self._interval))
