"""The requests that hold one model: counted and bounded, so that a queue cannot grow for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from jarvis_core.errors import QueueFull
from jarvis_core.models.pace import Pace
from jarvis_core.models.turns import Claim, Turns, left_free


class Requests:
    """The requests of one model, from their coming to their end.

    Args:
        model: Name of the model.
        size: Requests that may wait.
        places: Requests that its engine is sent at the same time; 0 where that is unknown.

    Attributes:
        turns: Which of them goes to the engine next.
        held: How many there are.
    """

    def __init__(self, model: str, size: int, places: Callable[[], int]) -> None:
        self.turns = Turns(places)
        self.held = 0
        self._waiting: Counter[str | None] = Counter()  # by tenant
        self._model = model
        self._size = size
        self._pace = Pace()
        self._none = asyncio.Event()
        self._none.set()

    @property
    def waiting(self) -> int:
        """Those that have no delta yet."""
        return self._waiting.total()

    def enter(self, claim: Claim) -> int:
        """Count one that has come.

        Returns:
            Requests of the same key that wait already; of everybody where there are no keys.

        Raises:
            QueueFull: Too many wait already.
        """
        waiting, own = self.waiting, self._waiting[claim.tenant]
        if waiting >= self._size:
            raise QueueFull(
                f"{waiting} requests for model {self._model!r} are waiting already",
                retry_after=self._pace.until(waiting // 4),
            )
        most = max(1, self._size - left_free(self._size))  # the rest is for other keys
        if claim.shared and own >= most:
            raise QueueFull(
                f"{own} requests of this API key wait for model {self._model!r} already",
                retry_after=self._pace.until(own // 4),
            )
        self.held += 1
        self._waiting[claim.tenant] += 1
        self._none.clear()
        return own

    def begin_answer(self, claim: Claim) -> None:
        """One that entered waits no longer."""
        self._waits_no_longer(claim)
        self._pace.step()

    def leave(self, claim: Claim, *, waiting: bool) -> None:
        """One that entered has ended, perhaps while it still waited."""
        self.held -= 1
        if waiting:
            self._waits_no_longer(claim)
        if not self.held:
            self._none.set()

    def _waits_no_longer(self, claim: Claim) -> None:
        self._waiting[claim.tenant] -= 1
        if not self._waiting[claim.tenant]:
            del self._waiting[claim.tenant]

    async def drained(self, within: float) -> None:
        """Return when there are none, or after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), within)
