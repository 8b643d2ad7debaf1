"""When outputs are handed to the event loop."""

from __future__ import annotations

import asyncio

import pytest

from jarvis_core import EngineDied, EngineOutput
from jarvis_llamacpp.outbox import Outbox
from jarvis_llamacpp.reply import Reply

pytestmark = pytest.mark.anyio


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def taken(reply: Reply) -> str:
    """What reached the loop."""
    for _ in range(3):
        await asyncio.sleep(0)
    reply.put(EngineOutput(index=9))
    texts = []
    while (output := await reply.take()).index != 9:
        texts.append(output.text)
    return "|".join(texts)


async def test_a_first_output_leaves_at_once_and_others_together() -> None:
    clock = Clock()
    outbox, reply = Outbox(0.02, clock), Reply(asyncio.get_running_loop())
    outbox.add(reply, EngineOutput(text="a"))
    outbox.send_due()
    assert await taken(reply) == "a"

    for letter in "bc":
        clock.now += 0.008
        outbox.add(reply, EngineOutput(text=letter))
        outbox.send_due()
    assert await taken(reply) == ""

    clock.now += 0.008
    outbox.add(reply, EngineOutput(text="d"))
    outbox.send_due()
    assert await taken(reply) == "bcd"


@pytest.mark.parametrize(
    "last", [EngineOutput(text="c", finish_reason="stop"), EngineDied("it ended")]
)
async def test_an_end_takes_along_what_waits(last: EngineOutput | EngineDied) -> None:
    outbox, reply = Outbox(0.02, Clock()), Reply(asyncio.get_running_loop())
    outbox.add(reply, EngineOutput(text="a"))
    outbox.send_due()
    outbox.add(reply, EngineOutput(text="b"))
    outbox.add(reply, last)
    outbox.send_due()
    for _ in range(3):
        await asyncio.sleep(0)

    text = (await reply.take()).text
    assert text.startswith("ab")


async def test_another_requests_first_output_takes_along_what_waits() -> None:
    outbox, loop = Outbox(0.02, Clock()), asyncio.get_running_loop()
    old, new = Reply(loop), Reply(loop)
    outbox.add(old, EngineOutput(text="a"))
    outbox.send_due()
    outbox.add(old, EngineOutput(text="b"))
    outbox.add(new, EngineOutput(text="c"))
    outbox.send_due()

    assert (await taken(old), await taken(new)) == ("ab", "c")


async def test_without_an_interval_every_step_is_sent() -> None:
    outbox, reply = Outbox(0.0, Clock()), Reply(asyncio.get_running_loop())
    for letter in "abc":
        outbox.add(reply, EngineOutput(text=letter))
        outbox.send_due()
        assert await taken(reply) == letter


async def test_a_closed_loop_is_nobody_to_send_to() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    outbox, reply = Outbox(0.0, Clock()), Reply(asyncio.get_running_loop())
    outbox.add(Reply(closed), EngineOutput(text="a"))
    outbox.add(reply, EngineOutput(text="b"))
    outbox.send()

    assert await taken(reply) == "b"
