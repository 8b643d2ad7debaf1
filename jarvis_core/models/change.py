"""What is being done to a model by order: one thing at a time, whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

Work = Coroutine[Any, Any, None]


class GivenUp(Exception):
    """What was begun was ended for something else."""


class Change:
    """Does one thing after the other; it goes on if who asked for it leaves."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether something is being done."""
        return self._task is not None and not self._task.done()

    def begin(self, work: Work) -> None:
        """Do something in the background, in place of what is being done."""
        self.give_up()
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def make(self, work: Work) -> None:
        """Do something in place of what is being done, and wait for its end.

        Raises:
            GivenUp: Something else took its place.
        """
        self.begin(work)
        task = self._task
        assert task is not None
        await asyncio.wait([task])  # unlike awaiting it, this does not cancel it
        if task.cancelled():
            raise GivenUp
        task.result()

    def give_up(self) -> None:
        """End what is being done."""
        if self._task is not None:
            self._task.cancel()
