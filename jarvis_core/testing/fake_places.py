"""The places of the fake engine: who has one, and who gives way; see ``Share``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import field, mutable

from jarvis_core.structs import Share


@mutable(eq=False)
class Place:
    """What one request has, or waits for.

    Attributes:
        share: Whom the request is for.
        given: Set while it has the place.
        used: Words said since it was given.
        begun: Whether it was given before.
    """

    share: Share | None
    _on_use: Callable[[], None]
    given: asyncio.Event = field(factory=asyncio.Event)
    used: int = 0
    begun: bool = False

    async def use(self) -> None:
        """Wait until a word may be said."""
        await self.given.wait()
        self.used += 1
        self._on_use()


class Places:
    """A number of places, which requests have in their order.

    Args:
        count: How many there are; 0 is any number.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._given: list[Place] = []
        self._waiting: list[Place] = []

    @asynccontextmanager
    async def one(self, share: Share | None) -> AsyncIterator[Place]:
        """A place, which may be lost to others between two words and comes back."""
        place = Place(share, self._settle)
        self._waiting.append(place)
        self._settle()
        try:
            await place.given.wait()
            yield place
        finally:
            (self._given if place in self._given else self._waiting).remove(place)
            self._settle()

    def _settle(self) -> None:
        """Give the places that are free or given up to who waits."""
        for place in list(self._waiting):
            if self._count and len(self._given) >= self._count:
                other = self._who_gives_way(place)
                if other is None:
                    continue
                self._given.remove(other)
                other.given.clear()
                self._waiting.append(other)
            self._waiting.remove(place)
            self._given.append(place)
            place.used, place.begun = 0, True
            place.given.set()

    def _who_gives_way(self, place: Place) -> Place | None:
        """The last request of who has most, unless it has yet to say a word."""
        share = place.share
        counts = Counter(p.share.name for p in self._given if p.share is not None)
        if share is None or place.begun or counts[share.name]:
            return None

        def may(other: Place) -> bool:
            theirs = other.share
            if theirs is None or theirs.priority < share.priority or not other.used:
                return False
            more = counts[theirs.name] > 1 or theirs.others > share.others
            return more or not share.others

        found = [other for other in self._given if may(other)]
        return max(
            reversed(found),
            key=lambda other: counts[other.share.name if other.share else ""],
            default=None,
        )
