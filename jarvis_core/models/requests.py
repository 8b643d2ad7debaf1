"""The requests that hold one model: counted and bounded, so that a queue cannot grow for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from jarvis_core.errors import QueueFull
from jarvis_core.models.pace import Pace
from jarvis_core.models.turns import Claim, Turns


class Requests:
    """The requests of one model, from their coming to their end.

    Args:
        model: Name of the model.
        size: Requests that may wait.
        places: Sequences that its engine computes at the same time; 0 where that is unknown.

    Attributes:
        turns: Which of them goes to the engine next.
        held: How many there are.
        waiting: Of those, how many have no delta yet.
    """

    def __init__(self, model: str, size: int, places: Callable[[], int]) -> None:
        self.turns = Turns(places)
        self.held = 0
        self.waiting = 0
        self._model = model
        self._size = size
        self._pace = Pace()
        self._none = asyncio.Event()
        self._none.set()

    def enter(self, claim: Claim) -> None:
        """Count one that has come.

        Raises:
            QueueFull: Too many wait already.
        """
        if self.waiting >= self._size:
            raise QueueFull(
                f"{self.waiting} requests for model {self._model!r} are waiting already",
                retry_after=self._pace.until(self.waiting // 4),
            )
        own = self.turns.waiting(claim)
        if own >= self._size - self._size // 4:  # the rest is left to other keys
            raise QueueFull(
                f"{own} requests of this API key wait for model {self._model!r} already",
                retry_after=self._pace.until(own // 4),
            )
        self.held += 1
        self.waiting += 1
        self._none.clear()

    def begin_answer(self) -> None:
        """One that entered waits no longer."""
        self.waiting -= 1
        self._pace.step()

    def leave(self, *, waiting: bool) -> None:
        """One that entered has ended, perhaps while it still waited."""
        self.held -= 1
        self.waiting -= waiting
        if not self.held:
            self._none.set()

    async def drained(self, within: float) -> None:
        """Return when there are none, or after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), within)
