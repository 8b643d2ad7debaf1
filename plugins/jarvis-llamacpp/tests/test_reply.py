"""Outputs on their way to the coroutine that reads them."""

from __future__ import annotations

import asyncio

import pytest

from jarvis_core import EngineError, EngineOutput, Usage
from jarvis_llamacpp.reply import Reply, deliver


def output(text: str, index: int = 0, *ids: int) -> EngineOutput:
    return EngineOutput(index=index, text=text, token_ids=ids)


async def reply() -> Reply:
    return Reply(asyncio.get_running_loop())


async def test_outputs_come_in_order_as_they_arrive() -> None:
    found = await reply()
    found.put(output("a"))
    assert (await found.take()).text == "a"
    found.put(output("b"))
    assert (await found.take()).text == "b"


async def test_a_reader_that_waits_is_woken() -> None:
    found = await reply()
    reading = asyncio.create_task(found.take())
    await asyncio.sleep(0)
    deliver([(found, output("late"))])

    assert (await reading).text == "late"


async def test_what_a_slow_reader_missed_is_joined() -> None:
    found = await reply()
    for i in range(1000):
        found.put(output("x", 0, i))
    joined = await found.take()

    assert joined.text == "x" * 1000
    assert joined.token_ids == tuple(range(1000))


async def test_outputs_of_different_continuations_are_not_joined() -> None:
    found = await reply()
    for text, index in (("a", 0), ("b", 1), ("c", 1)):
        found.put(output(text, index))

    assert [(await found.take()).text for _ in range(2)] == ["a", "bc"]


async def test_nothing_is_joined_to_a_finished_continuation() -> None:
    found = await reply()
    found.put(EngineOutput(text="a", finish_reason="stop"))
    found.put(EngineOutput(text="b"))

    assert (await found.take()).finish_reason == "stop"


async def test_it_is_finished_with_the_output_that_has_the_usage() -> None:
    found = await reply()
    found.put(output("a"))
    usage = Usage(prompt_tokens=1, completion_tokens=2)
    found.put(EngineOutput(text="b", finish_reason="stop", usage=usage))
    last = await found.take()

    assert (last.text, last.finish_reason, last.usage) == ("ab", "stop", usage)
    assert found.finished


async def test_an_error_comes_after_the_text_before_it() -> None:
    found = await reply()
    found.put(output("a"))
    found.put(EngineError("broken"))

    assert (await found.take()).text == "a"
    assert not found.finished
    with pytest.raises(EngineError, match="broken"):
        await found.take()
    assert found.finished
