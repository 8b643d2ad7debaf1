"""When a model's engine host that died is started again."""

from __future__ import annotations

STEADY = 10.0
"""Seconds after which a host that dies is replaced at once: it was none of a row that die young."""

LONGEST = 60.0
"""Seconds of a pause at most, unless the first is longer."""


class Restarts:
    """Counts the hosts in a row that died at their start or soon after it.

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
