"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

T = TypeVar("T")

AHEAD = 16
"""Items that wait to be taken before the streams that made them have to."""


async def merged(
    streams: Sequence[AsyncGenerator[T, None]],
) -> AsyncGenerator[tuple[int, T], None]:
    """What several streams bring, as it comes, each with the number of its stream.

    The first error of one ends all. Closing this leaves none of them running; who made them
    closes them.
    """
    if len(streams) == 1:
        async for item in streams[0]:
            yield 0, item
        return
    came: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(AHEAD)

    async def pump(number: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async for item in stream:
                await came.put((number, item))
            await came.put(None)
        except Exception as error:
            await came.put(error)

    pumps = [asyncio.create_task(pump(*numbered)) for numbered in enumerate(streams)]
    try:
        running = len(pumps)
        while running:
            match await came.get():
                case None:
                    running -= 1
                case Exception() as error:
                    raise error
                case numbered:
                    yield numbered
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
