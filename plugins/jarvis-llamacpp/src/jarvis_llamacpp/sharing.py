"""Who gives way to whom, where the places of the engine are shared; see ``jarvis_core.Share``.

A sequence of somebody for whom none runs takes the place of one of who has the most: at once when
the other still has one afterwards, or when it has just come, alone or from a smaller crowd than the
other. Else both have a place only by turns of a ``QUANTUM``. What gave way is left alone afterwards
for a part of the time that it waited, so that a row of short newcomers, each of which may begin at
once, cannot hold it up for good.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Generic

from jarvis_llamacpp.cache import S
from jarvis_llamacpp.sequence import Sequence as Running

MOST_STOPPED = 4.0
"""Seconds after which the steps that read a sequence are stopped no more until it has got on."""

QUANTUM = 1.0
"""Seconds after which a place goes to somebody who has none and gave way before."""

PART = 4
"""What gave way goes on for one in so many seconds that it waited, before it does so again."""


class Sharing(Generic[S]):
    """Chooses; it changes only what sequences know of their own waiting.

    Args:
        clock: Tells the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def began_to_wait(self, sequence: S) -> None:
        """Note that a sequence has no place from now on."""
        sequence.since = self._clock()

    def got_place(self, sequence: S) -> None:
        """Note that a sequence has a place from now on."""
        now = self._clock()
        sequence.waited = now - sequence.since if sequence.begun else 0.0
        sequence.since = now
        sequence.begun = True

    def was_stopped(self, sequence: S) -> None:
        """Note that a step that read a sequence was stopped."""
        sequence.in_pieces = True
        if sequence.stopped is None:
            sequence.stopped = self._clock()

    def may_be_stopped(self, sequence: S) -> bool:
        """Whether another step that reads a sequence may be stopped."""
        stopped = sequence.stopped
        return stopped is None or self._clock() - stopped < MOST_STOPPED

    def lone_newcomer(self, among: Iterable[S], running: Sequence[S]) -> S | None:
        """A sequence without a token yet that is the only one of who it is for."""
        lone = [s for s in among if s.share and not s.share.others and s.length == s.prompt_length]
        if not lone or len(running) == 1:
            return None
        counts = _counts(running)
        return next((s for s in lone if s.share and counts[s.share.name] == 1), None)

    def in_turn(self, waiting: Sequence[S], running: Iterable[S]) -> list[S]:
        """Those that wait, in the order in which they get places.

        Among equals in priority those of somebody for whom nothing runs come first, beginning with
        who has waited for a whole turn; then those of the smallest crowd.
        """
        if all(sequence.share is None for sequence in waiting):
            return list(waiting)
        counts = _counts(running)
        late = self._clock() - QUANTUM

        def key(sequence: S) -> tuple[float, ...]:
            share = sequence.share
            if share is None:
                return (0, 1, *sequence.order)
            if counts[share.name]:
                return (share.priority, 2, *sequence.order)
            if sequence.since <= late:
                return (share.priority, 0, sequence.since)
            return (share.priority, 1, share.others, sequence.begun, *sequence.order)

        return sorted(waiting, key=key)

    def who_gives_way(self, sequence: S, running: Sequence[S]) -> S | None:
        """The running sequence whose place another one may take now; None if it must wait."""
        share, now = sequence.share, self._clock()
        if share is None or (sequence.begun and now - sequence.since < QUANTUM):
            return None
        counts = _counts(running)
        if counts[share.name]:
            return None
        found: S | None = None
        most: tuple[float, ...] = ()
        for other in running:
            if other.share is None or other.share.priority < share.priority or other.stays:
                continue
            count, ran = counts[other.share.name], now - other.since
            alone = not share.others or share.others < other.share.others
            by_turns = count == 1 and (sequence.begun or not alone)
            if ran < (QUANTUM if by_turns else min(other.waited / PART, QUANTUM)):
                continue
            rank = (ran,) if by_turns else other.order
            if not found or (other.share.priority, count, *rank) > most:
                found, most = other, (other.share.priority, count, *rank)
        return found


def _counts(running: Iterable[Running]) -> Counter[str]:
    """How many sequences run, by whom they are for."""
    return Counter(s.share.name for s in running if s.share is not None)
