"""Whose request goes to the engine next, where several keys share a model.

An engine answers what it is sent in the order in which it came, so a burst of one key would stand
before everybody else's requests. Here each key waits in a line of its own, and no more is sent
than the engine computes at the same time:

- the line whose key has the least at the engine is served first;
- a key that has something at the engine leaves some room free, so that the first request of
  another one begins at once;
- what is sent carries a rank, by which the engine computes a key's first request before the
  twentieth of another.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from attrs import field, frozen, mutable

ROOM = 8
"""One in so many places, one at least, is left free for other keys."""

_OWN_PRIORITIES = 500
"""Priorities of a request beyond this say no more: they order the requests of one key only."""


def left_free(places: int) -> int:
    """How many places one key leaves free for others."""
    return max(1, places // ROOM)


@frozen(kw_only=True)
class Claim:
    """Who wants a turn.

    Attributes:
        tenant: Name of the key; None where there are no keys.
        priority: Of the key; smaller is sooner.
        shared: Whether the model is shared with other keys; if not, there is no need for turns.
    """

    tenant: str | None = None
    priority: int = 0
    shared: bool = False


NOBODY = Claim()
"""Of a server without keys."""


@frozen(kw_only=True)
class Turn:
    """A place at the engine.

    Attributes:
        claim: Whose it is.
        places: Sequences that it takes.
        rank: Sequences of the same key that were at the engine before, and one more if others of
            it wait: in a burst none is as urgent as a key's only request.
    """

    claim: Claim
    places: int = 1
    rank: int = 0

    def engine_priority(self, wanted: int) -> int:
        """The priority that the engine is told, from the one that the request asks for."""
        if not self.claim.shared:
            return wanted
        own = max(-_OWN_PRIORITIES, min(wanted, _OWN_PRIORITIES))
        return (self.claim.priority * 1000 + self.rank) * 1001 + own


@mutable(eq=False)
class _Line:
    """What one key has at the engine and in front of it.

    Attributes:
        at_engine: Sequences at the engine.
        served: When it had its last turn, counted in turns.
        waiting: Heap of (priority, arrival, claim, places, future).
    """

    at_engine: int = 0
    served: int = 0
    waiting: list[tuple[int, int, Claim, int, asyncio.Future[Turn]]] = field(factory=list)


class Turns:
    """The lines in front of one model's engine.

    Args:
        capacity: Sequences that the engine computes at the same time; 0 where that is unknown,
            and then nothing waits here.
    """

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._lines: dict[str, _Line] = {}
        self._at_engine = 0
        self._arrivals = itertools.count()
        self._turns = itertools.count(1)

    async def take(self, claim: Claim, *, priority: int = 0, sequences: int = 1) -> Turn:
        """Wait for a turn, which must be given back.

        Args:
            claim: Who wants it.
            priority: Among the requests of the same key; smaller is sooner.
            sequences: Sequences that the request needs.
        """
        if not claim.shared or claim.tenant is None:
            return Turn(claim=claim)
        places = min(sequences, self._capacity()) or sequences
        line = self._lines.setdefault(claim.tenant, _Line())
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        heapq.heappush(line.waiting, (priority, next(self._arrivals), claim, places, future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(future.result())
            else:
                line.waiting = [w for w in line.waiting if w[-1] is not future]
                heapq.heapify(line.waiting)
                self._forget(claim.tenant)
                self._serve()
            raise

    def give(self, turn: Turn) -> None:
        """Give a turn back."""
        tenant = turn.claim.tenant
        if not turn.claim.shared or tenant is None:
            return
        self._lines[tenant].at_engine -= turn.places
        self._at_engine -= turn.places
        self._forget(tenant)
        self._serve()

    def _serve(self) -> None:
        """Send whatever may go."""
        while (tenant := self._next()) is not None:
            line = self._lines[tenant]
            _, _, claim, places, future = heapq.heappop(line.waiting)
            if future.cancelled():  # who waited is leaving, and has yet to notice
                self._forget(tenant)
                continue
            rank = line.at_engine + bool(line.waiting)
            future.set_result(Turn(claim=claim, places=places, rank=rank))
            line.served = next(self._turns)
            line.at_engine += places
            self._at_engine += places

    def _next(self) -> str | None:
        """The key whose turn it is, if there is room for what it wants."""
        waiting = [
            (line.waiting[0][2].priority, line.at_engine, line.served, line.waiting[0][1], tenant)
            for tenant, line in self._lines.items()
            if line.waiting
        ]
        for *_, tenant in sorted(waiting):
            if self._fits(self._lines[tenant]):
                return tenant
            if not self._lines[tenant].at_engine:
                return None  # it waits for room, which smaller requests must not take from it
        return None

    def _fits(self, line: _Line) -> bool:
        capacity = self._capacity()
        if not capacity or not self._at_engine:
            return True
        kept = left_free(capacity) if line.at_engine else 0
        return self._at_engine + line.waiting[0][3] <= capacity - kept

    def _forget(self, tenant: str) -> None:
        line = self._lines.get(tenant)
        if line is not None and not line.at_engine and not line.waiting:
            del self._lines[tenant]
