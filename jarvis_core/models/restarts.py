"""When a model's engine host that died is started again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

STEADY = 10.0
"""Seconds after which a host that dies is replaced at once: it was none of a row that die young."""

LONGEST = 60.0
"""Seconds of a pause at most, unless the first is longer."""


class Restarts:
    """Counts the hosts in a row that died at their start or soon after it, and waits between them.

    Args:
        first: Seconds of the first pause; each further one is twice as long.

    Attributes:
        in_a_row: Hosts that died young since one that did not.
        failed_starts: Of the last of them, those that never became ready.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self.in_a_row = 0
        self.failed_starts = 0
        self._until = 0.0
        self._hastened = asyncio.Event()

    def died(self, lived: float | None) -> None:
        """A host has died.

        Args:
            lived: Seconds since it was ready, None if it never was.
        """
        self.failed_starts = self.failed_starts + 1 if lived is None else 0
        self.in_a_row = 0 if lived is not None and lived >= STEADY else self.in_a_row + 1

    @property
    def pause(self) -> float:
        """Seconds until the next is started."""
        if not self.in_a_row:
            return 0.0
        doublings = min(self.in_a_row - 1, 32)  # by then any pause is the longest
        return min(self._first * 2.0**doublings, max(LONGEST, self._first))

    @property
    def left(self) -> float:
        """Seconds that are left of the pause that is waited for."""
        return max(0.0, self._until - time.monotonic())

    async def wait(self) -> None:
        """Wait for the end of the pause, or until it is cut short."""
        self._hastened.clear()
        self._until = time.monotonic() + self.pause
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hastened.wait(), self.pause)
        self._until = 0.0

    def hasten(self) -> None:
        """Cut the pause short that is waited for."""
        self._until = 0.0
        self._hastened.set()
