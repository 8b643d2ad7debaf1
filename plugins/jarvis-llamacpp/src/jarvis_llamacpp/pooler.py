"""Computes vectors of many requests, several sequences at a time, on a thread of its own.

Requests with many sequences do not stand before others: each gets one of its sequences computed,
then the next request one of its own, and so on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from attrs import define

from jarvis_core import EngineDied, EngineError, EngineStats
from jarvis_llamacpp.context import DecodeError
from jarvis_llamacpp.pooled_context import PooledContext, Vector

_log = logging.getLogger(__name__)


@define(eq=False)
class _Item:
    tokens: Sequence[int]
    future: asyncio.Future[Vector]
    loop: asyncio.AbstractEventLoop


class Pooler:
    """The queue and the thread of a pooled context.

    Args:
        context: The context; it is closed with this.
    """

    def __init__(self, context: PooledContext) -> None:
        self._context = context
        self._requests: deque[deque[_Item]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._tokens = 0
        self._thread = threading.Thread(target=self._run, name="llama.cpp", daemon=True)
        self._thread.start()

    async def vectors(self, sequences: Sequence[Sequence[int]]) -> list[Vector]:
        """A vector for each sequence of token ids.

        Raises:
            EngineDied: The engine is closed.
            EngineError: llama.cpp failed.
        """
        loop = asyncio.get_running_loop()
        items = [_Item(tokens, loop.create_future(), loop) for tokens in sequences]
        with self._changed:
            self.check()
            if items:
                self._requests.append(deque(items))
            self._changed.notify()
        try:
            return list(await asyncio.gather(*(item.future for item in items)))
        finally:
            for item in items:
                item.future.cancel()  # what nobody waits for any more is not computed

    def check(self) -> None:
        """Refuse work once it is closed.

        Raises:
            EngineDied: It is closed.
        """
        if self._closed:
            raise EngineDied("the engine was closed")

    def stats(self) -> EngineStats:
        """Gauges and counters."""
        with self._changed:
            waiting = sum(map(len, self._requests))
        return EngineStats(
            running=self._running,
            waiting=waiting,
            kv_total=self._context.n_batch,
            prompt_tokens=self._tokens,
        )

    def close(self) -> None:
        """Fail what waits, and free the context; waits for the step that is computed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for items in self._requests:
            for item in items:
                _settle(item, EngineDied("the engine was closed"))
        self._requests.clear()
        self._context.close()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._requests and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                items = self._take()
                self._running = len(items)
            if items:
                self._compute(items)
            self._running = 0

    def _take(self) -> list[_Item]:
        """As many as a step holds, by turns; those that nobody waits for are dropped."""
        taken: list[_Item] = []
        room = self._context.n_batch
        while self._requests and len(taken) < self._context.n_seqs:
            items = self._requests[0]
            if not items[0].future.done():
                if len(items[0].tokens) > room:
                    break
                room -= len(items[0].tokens)
                taken.append(items[0])
            items.popleft()
            self._requests.popleft()
            if items:
                self._requests.append(items)
        return taken

    def _compute(self, items: list[_Item]) -> None:
        found: Sequence[Vector | EngineError]
        try:
            found = self._context.compute([item.tokens for item in items])
        except (DecodeError, ValueError):
            _log.exception("a step of the engine failed")
            found = [EngineError("the engine failed: a step could not be computed; see its log")]
            found *= len(items)
        self._tokens += sum(len(item.tokens) for item in items)
        for item, result in zip(items, found, strict=True):
            _settle(item, result)


def _settle(item: _Item, result: Vector | EngineError) -> None:
    def settle() -> None:
        if item.future.done():
            return
        if isinstance(result, EngineError):
            item.future.set_exception(result)
        else:
            item.future.set_result(result)

    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        item.loop.call_soon_threadsafe(settle)
