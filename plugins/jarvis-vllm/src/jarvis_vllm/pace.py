"""How many tokens of one stream leave together, where many streams run at the same time.

Each delivery of tokens costs the host's interpreter the same, however many they are: a task that
wakes up, text, a frame. With a small model and hundreds of streams that is what limits the
throughput, not the GPU.
"""

from __future__ import annotations

import math

DELIVERY = 70e-6
"""Seconds of which the host spends about half on one delivery: the rest is left to requests that
come and to everything else that it does."""

_LATEST = 0.1
"""Weight of the latest step against those before."""

_PAUSE = 1.0
"""Seconds between two steps that are no step any more: there was nothing to do."""


def tokens_at_once(streams: int, *, step: float, longest: float) -> int:
    """Tokens of each stream that are delivered together.

    Args:
        streams: Streams that run.
        step: Seconds of one step, in which each of them gets a token; 0 where it is not known.
        longest: Seconds that a token may wait for others at most.
    """
    if step <= 0:
        return 1
    return max(1, min(math.ceil(streams * DELIVERY / step), int(longest / step)))


class StepClock:
    """Measures the steps of an engine by the moments at which they end.

    Attributes:
        seconds: Of one step, an average of the latest; 0 until there were two.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = -math.inf

    def tick(self, now: float) -> None:
        """A step has ended.

        Args:
            now: Seconds on a clock that only grows.
        """
        gap, self._last = now - self._last, now
        if gap < _PAUSE:
            self.seconds += (gap - self.seconds) * (_LATEST if self.seconds else 1.0)
