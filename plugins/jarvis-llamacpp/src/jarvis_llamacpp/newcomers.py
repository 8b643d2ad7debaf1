"""Requests that have just come, for which the step that is computed may be stopped."""

from __future__ import annotations

import math
import threading
from typing import Protocol


class Stop(Protocol):
    """Stops a step."""

    def set(self) -> None:
        """Stop the step that is computed, or the next one."""
        ...


class Newcomers:
    """The priorities of requests that no step was planned with yet.

    They come at any moment, on other threads: while a step is planned, too.
    """

    def __init__(self) -> None:
        """Begin with none, and without a step."""
        self._lock = threading.Lock()
        self._waiting: list[int] = []
        self._limit = -math.inf
        self._stop: Stop | None = None

    def come(self, priority: int) -> None:
        """Note a request, and stop the step if it makes way for that."""
        with self._lock:
            self._waiting.append(priority)
            self._ring()

    def enter(self, priority: int) -> None:
        """Note that a request is known to who plans the steps."""
        with self._lock:
            self._waiting.remove(priority)

    def begin_step(self, limit: int | None, stop: Stop) -> None:
        """Begin a step, whose plan is made.

        Args:
            limit: Requests of a smaller priority stop it; None if none does.
            stop: Stops it.
        """
        with self._lock:
            self._limit, self._stop = -math.inf if limit is None else limit, stop
            self._ring()

    def end_step(self) -> None:
        """End a step: there is nothing to stop."""
        with self._lock:
            self._limit = -math.inf

    def _ring(self) -> None:
        if self._stop is not None and any(priority < self._limit for priority in self._waiting):
            self._stop.set()
