from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from jarvis_core.merging import AHEAD, merged

pytestmark = pytest.mark.anyio


async def count(least: int, most: int, *, pause: bool = True) -> AsyncGenerator[int, None]:
    for number in range(least, most):
        if pause:
            await asyncio.sleep(0)
        yield number


async def test_what_streams_bring_comes_with_their_numbers():
    found = [item async for item in merged([count(0, 3), count(10, 12), count(5, 5)])]
    assert sorted(found) == [(0, 0), (0, 1), (0, 2), (1, 10), (1, 11)]
    assert [item for number, item in found if number == 0] == [0, 1, 2]


async def test_of_one_stream_nothing_is_made_ahead():
    made = count(0, 5)
    async with aclosing(merged([made])) as stream:
        assert await anext(stream) == (0, 0)
    assert await anext(made) == 1


async def test_an_error_of_one_ends_all():
    async def fail() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("wrong")

    endless = count(0, 1 << 40)
    with pytest.raises(ValueError, match="wrong"):
        async for _ in merged([endless, fail()]):
            pass
    await endless.aclose()  # it would be refused while somebody still reads it


async def test_streams_wait_until_what_they_made_is_taken():
    made: list[int] = []

    async def note() -> AsyncGenerator[int, None]:
        async for number in count(0, 1000, pause=False):
            made.append(number)
            yield number

    async with aclosing(merged([note(), count(0, 0)])) as stream:
        await anext(stream)
        await asyncio.sleep(0.01)
    assert len(made) <= AHEAD + 3
