"""R-06: a request that kills its host is found, alone, and refused; its neighbours are cleared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jarvis_core.errors import PoisonRequest
from jarvis_core.host.calls import ResetPrefixCache, SleepRequest, WakeRequest
from jarvis_core.models.suspects import POISONED, Suspects, Ticket, fingerprint
from jarvis_core.structs import ChatRequest, Message, SamplingParams

pytestmark = pytest.mark.anyio


def ask(text: str, **sampling: Any) -> ChatRequest:
    return ChatRequest(
        model="m",
        messages=(Message(role="user", content=text),),
        sampling=SamplingParams(**sampling),
    )


BAD, GOOD = ask("bad"), ask("good")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suspects(clock: Clock) -> Suspects:
    return Suspects(clock)


def test_fingerprint_tells_requests_apart_by_what_they_ask() -> None:
    assert fingerprint(ask("a", logit_bias={1: 2.0})) == fingerprint(ask("a", logit_bias={1: 2.0}))
    assert fingerprint(ask("a")) != fingerprint(ask("b"))
    assert fingerprint(ask("a")) != fingerprint(ask("a", seed=1))


async def test_requests_run_beside_each_other_while_nobody_is_suspect(suspects: Suspects) -> None:
    assert await suspects.admit(GOOD) == Ticket()
    assert await suspects.admit(BAD) == Ticket()


async def test_what_an_operator_asked_is_no_suspect(suspects: Suspects) -> None:
    for request in (SleepRequest(), WakeRequest(), ResetPrefixCache()):
        suspects.host_died([request])
        assert await suspects.admit(request) == Ticket()
        suspects.leave(Ticket(), survived=True)


async def test_suspect_waits_until_it_is_alone_and_holds_others_back(suspects: Suspects) -> None:
    suspects.host_died([BAD])
    first = await suspects.admit(GOOD)
    bad = asyncio.create_task(suspects.admit(BAD))
    await asyncio.sleep(0)
    later = asyncio.create_task(suspects.admit(GOOD))
    await asyncio.sleep(0.01)
    assert not bad.done()
    suspects.leave(first, survived=True)
    ticket = await bad
    await asyncio.sleep(0.01)
    assert not later.done()
    suspects.leave(ticket, survived=True)
    suspects.leave(await later, survived=True)


async def test_survivor_is_suspect_no_longer(suspects: Suspects) -> None:
    suspects.host_died([GOOD, BAD])
    suspects.leave(await suspects.admit(GOOD), survived=True)
    assert (await suspects.admit(GOOD)).suspect is None


async def test_suspect_whose_client_left_stays_one(suspects: Suspects) -> None:
    suspects.host_died([BAD])
    suspects.leave(await suspects.admit(BAD), survived=False)
    assert (await suspects.admit(BAD)).suspect is not None


async def test_request_that_kills_alone_is_refused_for_ten_minutes(
    suspects: Suspects, clock: Clock
) -> None:
    suspects.host_died([BAD])
    suspects.leave(await suspects.admit(BAD), survived=False)
    suspects.host_died([BAD])
    with pytest.raises(PoisonRequest, match="refused for another 600 s"):
        await suspects.admit(BAD)
    assert await suspects.admit(GOOD) == Ticket()
    clock.now = POISONED + 1
    assert await suspects.admit(BAD) == Ticket()


async def test_second_copy_of_a_poison_request_that_waits_is_refused_too(
    suspects: Suspects,
) -> None:
    suspects.host_died([BAD])
    ticket = await suspects.admit(BAD)
    copy = asyncio.create_task(suspects.admit(BAD))
    await asyncio.sleep(0)
    suspects.host_died([BAD])
    suspects.leave(ticket, survived=False)
    with pytest.raises(PoisonRequest):
        await copy
    assert await suspects.admit(GOOD) == Ticket()


async def test_suspect_that_gives_up_waiting_lets_others_go_on(suspects: Suspects) -> None:
    suspects.host_died([BAD])
    running = await suspects.admit(GOOD)
    bad = asyncio.create_task(suspects.admit(BAD))
    await asyncio.sleep(0)
    bad.cancel()
    await asyncio.gather(bad, return_exceptions=True)
    assert await asyncio.wait_for(suspects.admit(GOOD), 1) == Ticket()
    suspects.leave(running, survived=True)


async def test_memory_of_suspects_is_bounded(
    suspects: Suspects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jarvis_core.models.suspects.MOST", 3)
    for i in range(10):
        suspects.host_died([ask(str(i))])
    assert len(suspects._suspects) == 3
