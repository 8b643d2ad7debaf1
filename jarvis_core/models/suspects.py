"""Requests that were in flight when an engine host died, and who may run beside whom.

Each of them is a suspect: next time it runs alone. One that kills its host again, alone, is
refused for a while without reaching a host. So a single bad request costs two restarts, whatever
its clients do, and its neighbours are cleared by their next try.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable

import msgspec
from attrs import frozen

from jarvis_core.errors import PoisonRequest
from jarvis_core.host.calls import KINDS, HostRequest, Operation
from jarvis_core.host.protocol import converter

POISONED = 600.0
"""Seconds for which a request that killed a host alone is refused."""

MOST = 4096
"""Suspects remembered; the oldest are forgotten first."""


@frozen(kw_only=True)
class Ticket:
    """Leave to run.

    Attributes:
        suspect: The request's fingerprint if it is a suspect, and so runs alone.
    """

    suspect: bytes | None = None


class Suspects:
    """The suspects of one model.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._suspects: dict[bytes, None] = {}
        self._poison: dict[bytes, float] = {}
        self._running = 0
        self._alone = False
        self._next_alone = 0
        self._changed = asyncio.Event()

    def host_died(self, held: Iterable[HostRequest]) -> None:
        """Note the requests that a host held when it died. A suspect among them was alone."""
        asked = [request for request in held if not isinstance(request, Operation)]
        for mark in {fingerprint(request) for request in asked}:
            if mark in self._suspects:
                del self._suspects[mark]
                self._poison[mark] = self._clock() + POISONED
            else:
                self._suspects[mark] = None
        while len(self._suspects) > MOST:
            del self._suspects[next(iter(self._suspects))]

    async def admit(self, request: HostRequest) -> Ticket:
        """Wait until a request may run: beside others, or alone if it is a suspect.

        Raises:
            PoisonRequest: It killed a host alone.
        """
        if self._suspects or self._poison:
            mark = fingerprint(request)
            self._refuse_poison(mark)
            if mark in self._suspects:
                return await self._admit_alone(mark)
        while self._alone or self._next_alone:
            await self._changed.wait()
        self._running += 1
        return Ticket()

    async def _admit_alone(self, mark: bytes) -> Ticket:
        self._next_alone += 1  # from here on nobody else begins
        try:
            while self._alone or self._running:
                await self._changed.wait()
            self._refuse_poison(mark)
            self._alone = True
        finally:
            self._next_alone -= 1
            self._notify()
        return Ticket(suspect=mark)

    def leave(self, ticket: Ticket, *, survived: bool) -> None:
        """Give a ticket back.

        Args:
            ticket: From ``admit``.
            survived: The request ran to its end, or was refused, and its host lived.
        """
        if ticket.suspect is None:
            self._running -= 1
        else:
            self._alone = False
            if survived:
                self._suspects.pop(ticket.suspect, None)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _refuse_poison(self, mark: bytes) -> None:
        left = self._poison.get(mark, 0.0) - self._clock()
        if left > 0:
            raise PoisonRequest(
                "this request ended its engine host twice, the second time alone; it is refused "
                f"for another {left:.0f} s"
            )
        self._poison.pop(mark, None)


def fingerprint(request: HostRequest) -> bytes:
    """The same for two requests that ask the same of a model."""
    packed = msgspec.msgpack.encode([KINDS[type(request)], converter.unstructure(request)])
    return hashlib.blake2b(packed, digest_size=16).digest()
