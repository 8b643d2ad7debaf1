"""What vLLM sends for the continuations of one request, in the order in which it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any


def arrivals(queues: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """Which continuation, and a ``RequestOutput`` of it; ends when all have ended.

    Args:
        queues: vLLM's ``RequestOutputCollector`` of each continuation. What is not taken is joined
            there, so a reader that is slow costs text and no objects.
    """
    return _only(queues[0]) if len(queues) == 1 else _merged(queues)


async def _only(queue: Any) -> AsyncGenerator[tuple[int, Any], None]:
    finished = False
    while not finished:
        output = queue.get_nowait() or await queue.get()
        finished = output.finished
        yield 0, output


async def _merged(queues: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    waiting = {asyncio.ensure_future(queue.get()): index for index, queue in enumerate(queues)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = waiting.pop(task)
                output = task.result()
                if not output.finished:
                    waiting[asyncio.ensure_future(queues[index].get())] = index
                yield index, output
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
