"""Whose request goes to the engine next, where several keys share a model.

An engine answers what it is sent in the order in which it came, so a burst of one key would stand
before everybody else's requests. Here each key waits in a line of its own, and no more is sent
than the engine computes at the same time, but for guests:

- the line whose key has the least at the engine is served first;
- a key that has something at the engine leaves some room free, so that the first request of
  another one begins at once;
- where no place is free, and the engine can let a sequence give way, a key that has nothing there
  is sent in beside the others, as a guest: which of them gives way, and for how long, is then the
  engine's business (``Share``);
- a request that needs several places begins with those that there are, gets more by turns, and
  gives back each that it has no further answer for;
- what is sent carries a rank, by which the engine computes a key's first request before the
  twentieth of another.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from bisect import insort
from collections.abc import Callable

from attrs import evolve, field, frozen, mutable

from jarvis_core.structs import Share

ROOM = 8
"""One in so many places, one at least, is left free for other keys."""

GUESTS = 8
"""Places that guests have at most: the state of each sequence that gave way is kept meanwhile."""

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
        missing: Sequences of the request for which there is no place yet.
        rank: Sequences of the same key that are at the engine beside the first of these, and one
            more if others of it wait: in a burst none is as urgent as a key's only request.
        others: Sequences of the same key that are at the engine or wait.
        order: Its place in the line of its key.
    """

    claim: Claim
    places: int = 1
    missing: int = 0
    rank: int = 0
    others: int = 0
    order: tuple[int, int] = (0, 0)

    @property
    def share(self) -> Share | None:
        """Whom the engine is told that the request is for."""
        claim = self.claim
        if not claim.shared or claim.tenant is None:
            return None
        return Share(name=claim.tenant, priority=claim.priority, others=self.others)

    def engine_priority(self, wanted: int) -> int:
        """The priority that the engine is told, from the one that the request asks for."""
        if not self.claim.shared:
            return wanted
        own = max(-_OWN_PRIORITIES, min(wanted, _OWN_PRIORITIES))
        return (self.claim.priority * 1000 + self.rank) * 1001 + own


@frozen(kw_only=True)
class _Wait:
    """A request in a line.

    Attributes:
        order: Its place in the line: priority, arrival.
        claim: Whose it is.
        places: Sequences that it needs.
        guest: Whether it may be sent to an engine that has no place free.
        turn: Set to its turn.
    """

    order: tuple[int, int]
    claim: Claim
    places: int
    guest: bool
    turn: asyncio.Future[Turn]


@mutable(eq=False)
class _Line:
    """What one key has at the engine and in front of it.

    Attributes:
        at_engine: Sequences at the engine.
        priority: Of the key, when it had its last turn.
        served: When it had its last turn, counted in turns.
        waiting: Requests, in order.
    """

    at_engine: int = 0
    priority: int = 0
    served: int = 0
    waiting: list[_Wait] = field(factory=list)


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

    async def take(
        self, claim: Claim, *, priority: int = 0, sequences: int = 1, guest: bool = False
    ) -> Turn:
        """Wait for a turn, which must be given back.

        Args:
            claim: Who wants it.
            priority: Among the requests of the same key; smaller is sooner.
            sequences: Sequences that the request needs; it may get less.
            guest: Whether the engine lets a sequence of others give way to it.
        """
        if not claim.shared or claim.tenant is None:
            return Turn(claim=claim, places=sequences)
        order = (priority, next(self._arrivals))
        return await self._wait(claim, order, sequences, guest=guest)

    async def more(self, turn: Turn) -> Turn:
        """Wait for a further turn of a request whose turn was too small; it stays at its place."""
        return await self._wait(turn.claim, turn.order, turn.missing, guest=False)

    async def _wait(
        self, claim: Claim, order: tuple[int, int], places: int, *, guest: bool
    ) -> Turn:
        assert claim.tenant is not None
        line = self._lines.setdefault(claim.tenant, _Line())
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        wait = _Wait(order=order, claim=claim, places=places, guest=guest, turn=future)
        insort(line.waiting, wait, key=_order)
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(future.result())
            else:
                line.waiting = [w for w in line.waiting if w is not wait]
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
            room = self._room(line)
            wait = line.waiting.pop(0)
            if wait.turn.cancelled():  # who waited is leaving, and has yet to notice
                self._forget(tenant)
                continue
            places = min(wait.places, room)
            missing = wait.places - places
            beside = line.at_engine + places - 1
            turn = Turn(
                claim=wait.claim,
                places=places,
                missing=missing,
                rank=beside + bool(missing or line.waiting),
                others=beside + missing + len(line.waiting),
                order=wait.order,
            )
            wait.turn.set_result(turn)
            line.served = next(self._turns)
            line.priority = wait.claim.priority
            line.at_engine += places
            self._at_engine += places

    def _next(self) -> str | None:
        """The key whose turn it is, if there is room for it."""
        waiting = [
            (
                *(line.waiting[0].claim.priority, line.at_engine, line.served),
                *(line.waiting[0].order, tenant),
            )
            for tenant, line in self._lines.items()
            if line.waiting
        ]
        for *_, tenant in sorted(waiting):
            if self._room(self._lines[tenant]) > 0:
                return tenant
        return None

    def _room(self, line: _Line) -> int:
        """Places that a key, which waits, may take now.

        All but those left free; its first may be one of these, or a guest's.
        """
        capacity = self._capacity()
        if not capacity:
            return sys.maxsize
        free = capacity - self._at_engine
        first = not line.at_engine and (free > 0 or self._may_visit(line.waiting[0], -free))
        return max(int(first), free - left_free(capacity))

    def _may_visit(self, wait: _Wait, guests: int) -> bool:
        """Whether a key's first request may be sent as a guest, beside so many."""
        if not wait.guest or guests >= GUESTS:
            return False
        priority = wait.claim.priority
        return any(line.at_engine and line.priority >= priority for line in self._lines.values())

    def _forget(self, tenant: str) -> None:
        line = self._lines.get(tenant)
        if line is not None and not line.at_engine and not line.waiting:
            del self._lines[tenant]


class Hold:
    """The places that one request holds, as long as it has sequences for them.

    Args:
        turns: Where they come from.
        turn: The first of them.
    """

    def __init__(self, turns: Turns, turn: Turn) -> None:
        self._turns = turns
        self._turn = turn
        self._held = turn.places
        self._open = turn.places + turn.missing

    def add(self, turn: Turn) -> None:
        """Hold a further turn's places too."""
        self._held += turn.places
        self._trim()

    def ended(self, sequences: int) -> None:
        """So many sequences of the request have ended: their places go to others."""
        self._open -= sequences
        self._trim()

    def close(self) -> None:
        """Give back what is left."""
        self._open = 0
        self._trim()

    def _trim(self) -> None:
        spare = self._held - self._open
        if spare > 0:
            self._held = self._open
            self._turns.give(evolve(self._turn, places=spare))


def _order(wait: _Wait) -> tuple[int, int]:
    return wait.order
