"""What the engine thread has for its clients, and when it hands it over."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from jarvis_core import EngineOutput, JarvisError
from jarvis_llamacpp.reply import Event, Reply, deliver


class Outbox:
    """Gathers outputs and hands them to the event loop, all in one go.

    Each hand-off wakes the event loop, the server and the client, on the processors that the next
    step wants: with one request those cost a tenth of a step. So the tokens of quick steps leave
    together. What a client waits for leaves at once: a first token, an end, an error.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nothing.

        Args:
            interval: Seconds between two hand-offs at least, except of what is urgent.
            clock: Tells the time in seconds.
        """
        self._interval = interval
        self._clock = clock
        self._events: list[Event] = []
        self._urgent = False
        self._sent_at = clock()

    def add(self, reply: Reply, item: EngineOutput | JarvisError) -> None:
        """Take an output of a request, or its error."""
        first = not reply.begun
        if first or isinstance(item, JarvisError) or item.finish_reason is not None:
            reply.begun = True
            self._urgent = True
        self._events.append((reply, item))

    def send_due(self) -> None:
        """Hand over what was gathered, if it is urgent or the last hand-off is long enough ago."""
        if self._urgent or self._clock() - self._sent_at >= self._interval:
            self.send()

    def send(self) -> None:
        """Hand over what was gathered: once for each loop, and there is but one."""
        if not self._events:
            return
        events, self._events = self._events, []
        self._urgent = False
        self._sent_at = self._clock()
        by_loop: dict[AbstractEventLoop, list[Event]] = {}
        for event in events:
            by_loop.setdefault(event[0].loop, []).append(event)
        for loop, its in by_loop.items():
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(deliver, its)
