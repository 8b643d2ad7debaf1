"""Sleeping models: drained, put to sleep, woken by the next request, replaced when they fail."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from jarvis_core.errors import (
    EngineDied,
    ModelUnavailable,
    RequestError,
    StateConflict,
    UnsupportedParameter,
)
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.status import ModelState
from jarvis_core.settings import ModelConfig, ServerSettings
from jarvis_core.structs import ChatRequest, Message

pytestmark = pytest.mark.anyio

SETTINGS = ServerSettings(
    heartbeat_interval=0.05,
    heartbeat_stale=5.0,  # a busy machine is not a hung host
    heartbeat_timeout=20.0,
    restart_backoff=0.05,
    load_wait=20.0,
    drain_timeout=20.0,
)

Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts catalogues of one ready fake model, and ends their hosts with the test."""
    async with AsyncExitStack() as stack:

        async def start(settings: ServerSettings = SETTINGS, **fake: Any) -> Catalogue:
            config = ModelConfig(name="m", source="fake/m", engine="fake", settings=fake)
            catalogue = Catalogue({"m": config}, settings)
            stack.push_async_callback(catalogue.aclose)
            await catalogue.start()
            await catalogue.settled()
            return catalogue

        yield start


async def say(catalogue: Catalogue, text: str) -> str:
    request = ChatRequest(model="m", messages=(Message(role="user", content=text),))
    async with catalogue.lease("m") as lease:
        stream = await lease.stream(request, request_id="r")
        try:
            return "".join([delta.content async for batch in stream for delta in batch])
        finally:
            await stream.aclose()


def state(catalogue: Catalogue) -> ModelState:
    return catalogue.status("m").state


def pid(catalogue: Catalogue) -> int:
    found = catalogue._models["m"]._supervisor.host
    assert found is not None
    assert found.pid is not None
    return found.pid


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_sleeping_model_keeps_its_host_and_is_no_reason_not_to_be_ready(
    start: Start,
) -> None:
    catalogue = await start()
    awake = pid(catalogue)
    for level in (1, 2):
        status = await catalogue.sleep("m", level)
        assert status.state is ModelState.ASLEEP
        assert status.info is not None
        assert not status.healthy
        assert catalogue.ready()
        assert (await catalogue.wake("m")).state is ModelState.READY
        assert await say(catalogue, "good morning") == "good morning"
    assert pid(catalogue) == awake


async def test_requests_for_a_sleeping_model_wake_it_once(start: Start) -> None:
    catalogue = await start(sleep_delay=0.2)
    await catalogue.sleep("m", 1)
    asked = [asyncio.create_task(say(catalogue, f"text {i}")) for i in range(8)]
    await until(lambda: state(catalogue) is ModelState.WAKING)

    assert not catalogue.ready()
    assert await asyncio.gather(*asked) == [f"text {i}" for i in range(8)]
    assert catalogue.ready()


async def test_loading_a_sleeping_model_wakes_it(start: Start) -> None:
    catalogue = await start()
    awake = pid(catalogue)
    await catalogue.sleep("m", 1)

    assert (await catalogue.load("m")).state is ModelState.READY
    assert pid(catalogue) == awake


async def test_running_requests_end_before_the_engine_sleeps(start: Start) -> None:
    catalogue = await start()
    running = asyncio.create_task(say(catalogue, "!words=20 !delay=0.01"))
    await until(lambda: catalogue.status("m").requests == 1)
    sleeping = asyncio.create_task(catalogue.sleep("m", 1))
    await until(lambda: state(catalogue) is ModelState.FALLING_ASLEEP)
    with pytest.raises(ModelUnavailable, match="'m' is falling asleep"):
        await say(catalogue, "too late")

    assert len((await running).split()) == 20
    assert (await sleeping).state is ModelState.ASLEEP


async def test_requests_that_outlast_the_drain_are_cut_and_the_engine_sleeps(start: Start) -> None:
    """The fake engine refuses to sleep while something runs."""
    catalogue = await start(evolve(SETTINGS, drain_timeout=0.1))
    awake = pid(catalogue)
    endless = [asyncio.create_task(say(catalogue, "!words=9999 !delay=0.05")) for _ in range(4)]
    await until(lambda: catalogue.status("m").requests == 4 and not catalogue.status("m").waiting)

    assert (await catalogue.sleep("m", 1)).state is ModelState.ASLEEP
    for cut in await asyncio.gather(*endless, return_exceptions=True):
        assert isinstance(cut, ModelUnavailable)
        assert "was put to sleep" in cut.message
    assert await say(catalogue, "again") == "again"
    assert pid(catalogue) == awake


async def test_only_a_ready_model_is_put_to_sleep(start: Start) -> None:
    catalogue = await start(sleep_delay=0.3)
    first = asyncio.create_task(catalogue.sleep("m", 1))
    await until(lambda: state(catalogue) is ModelState.FALLING_ASLEEP)
    with pytest.raises(StateConflict, match="is falling asleep: only a ready model"):
        await catalogue.sleep("m", 1)
    await first
    with pytest.raises(StateConflict, match="is asleep: only a ready model"):
        await catalogue.sleep("m", 2)
    await catalogue.unload("m")
    with pytest.raises(StateConflict, match="is cold: only a ready model"):
        await catalogue.sleep("m", 1)


async def test_waking_what_is_awake_does_nothing_and_what_is_not_loaded_is_a_conflict(
    start: Start,
) -> None:
    catalogue = await start(load_delay=0.3)
    assert (await catalogue.wake("m")).state is ModelState.READY
    await catalogue.unload("m")
    with pytest.raises(StateConflict, match="is cold: only a sleeping model"):
        await catalogue.wake("m")
    loading = asyncio.create_task(catalogue.load("m"))
    await until(lambda: state(catalogue) is ModelState.LOADING)
    with pytest.raises(StateConflict, match="is loading"):
        await catalogue.wake("m")
    await loading


async def test_waking_while_it_falls_asleep_waits_for_its_turn(start: Start) -> None:
    catalogue = await start(sleep_delay=0.2)
    sleeping = asyncio.create_task(catalogue.sleep("m", 1))
    await until(lambda: state(catalogue) is ModelState.FALLING_ASLEEP)

    assert (await catalogue.wake("m")).state is ModelState.READY
    await sleeping


@pytest.mark.parametrize("ask", ["sleep", "wake", "reset_prefix_cache"])
async def test_an_engine_that_cannot_is_named(start: Start, ask: str) -> None:
    catalogue = await start(tasks=["generate"])
    argument = {"sleep": (1,), "wake": (), "reset_prefix_cache": ("r",)}[ask]
    with pytest.raises(UnsupportedParameter, match="model 'm' on engine 'fake' does not"):
        await getattr(catalogue, ask)("m", *argument)
    assert await say(catalogue, "unharmed") == "unharmed"


async def test_a_prefix_cache_is_reset_beside_running_requests(start: Start) -> None:
    catalogue = await start()
    running = asyncio.create_task(say(catalogue, "!words=50 !delay=0.01"))
    await until(lambda: catalogue.status("m").requests == 1)
    assert (await catalogue.reset_prefix_cache("m", "r")).state is ModelState.READY
    assert len((await running).split()) == 50
    await catalogue.sleep("m", 1)
    with pytest.raises(StateConflict, match="is asleep: only a ready model has a prefix cache"):
        await catalogue.reset_prefix_cache("m", "r")


async def test_an_engine_that_refuses_to_sleep_goes_on(start: Start) -> None:
    catalogue = await start(sleep_fault="refuse")
    awake = pid(catalogue)
    with pytest.raises(RequestError, match="asked to refuse"):
        await catalogue.sleep("m", 2)
    assert catalogue.ready()
    assert await say(catalogue, "awake") == "awake"
    assert pid(catalogue) == awake


@pytest.mark.parametrize("fault", ["error", "die"])
async def test_a_host_that_fails_to_sleep_is_replaced(
    start: Start, tmp_path: Path, fault: str
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    catalogue = await start(sleep_fault=fault, fault_file=str(flag))
    failed = pid(catalogue)
    with pytest.raises(EngineDied, match="'m' failed to sleep and is loaded anew"):
        await catalogue.sleep("m", 1)
    await until(catalogue.ready)
    assert pid(catalogue) != failed
    assert await say(catalogue, "anew") == "anew"
    flag.unlink()
    assert (await catalogue.sleep("m", 1)).state is ModelState.ASLEEP


async def test_one_that_takes_too_long_to_sleep_has_failed(start: Start) -> None:
    catalogue = await start(evolve(SETTINGS, load_timeout=10.0), sleep_delay=3600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue._models["m"], "_settings", evolve(SETTINGS, load_timeout=0.1))
        with pytest.raises(EngineDied, match=r"it took longer than 0\.1 s"):
            await catalogue.sleep("m", 1)


@pytest.mark.parametrize("fault", ["error", "die"])
async def test_a_host_that_fails_to_wake_is_replaced_and_who_waits_is_answered(
    start: Start, fault: str
) -> None:
    catalogue = await start(wake_fault=fault)
    failed = pid(catalogue)
    await catalogue.sleep("m", 1)
    assert await say(catalogue, "patience") == "patience"
    assert pid(catalogue) != failed


async def test_a_host_that_dies_asleep_is_not_replaced_before_somebody_asks(start: Start) -> None:
    """Who put the model to sleep has given its memory to something else."""
    catalogue = await start()
    await catalogue.sleep("m", 1)
    died = pid(catalogue)
    os.kill(died, signal.SIGKILL)
    await until(lambda: state(catalogue) is ModelState.COLD)
    await asyncio.sleep(0.2)

    assert state(catalogue) is ModelState.COLD
    assert catalogue.ready()
    assert "SIGKILL" in (catalogue.status("m").error or "")
    assert await say(catalogue, "load it") == "load it"
    assert pid(catalogue) != died


async def test_a_host_that_is_killed_as_it_is_woken_does_not_fail_the_request(start: Start) -> None:
    catalogue = await start()
    await catalogue.sleep("m", 1)
    asked = asyncio.create_task(say(catalogue, "good morning"))
    os.kill(pid(catalogue), signal.SIGKILL)
    assert await asked == "good morning"


async def test_a_host_that_dies_while_its_last_requests_end_is_replaced(start: Start) -> None:
    catalogue = await start()
    running = asyncio.create_task(say(catalogue, "!wait=30 done"))
    await until(lambda: catalogue.status("m").requests == 1)
    sleeping = asyncio.create_task(catalogue.sleep("m", 1))
    await until(lambda: state(catalogue) is ModelState.FALLING_ASLEEP)
    os.kill(pid(catalogue), signal.SIGKILL)
    died = await asyncio.gather(running, sleeping, return_exceptions=True)

    assert [type(error) for error in died] == [EngineDied] * 2
    await until(catalogue.ready)
    assert await say(catalogue, "again") == "again"


async def test_a_sleep_goes_on_when_who_asked_for_it_leaves(start: Start) -> None:
    catalogue = await start(sleep_delay=0.2)
    leaving = asyncio.create_task(catalogue.sleep("m", 1))
    await until(lambda: state(catalogue) is ModelState.FALLING_ASLEEP)
    leaving.cancel()
    await catalogue.settled()

    assert leaving.cancelled()
    assert state(catalogue) is ModelState.ASLEEP
    assert await say(catalogue, "good morning") == "good morning"


@pytest.mark.parametrize("asleep", [True, False])
async def test_unloading_ends_a_sleep(start: Start, asleep: bool) -> None:
    catalogue = await start(sleep_delay=0.1 if asleep else 30.0)
    sleeping = asyncio.create_task(catalogue.sleep("m", 1))
    wanted = ModelState.ASLEEP if asleep else ModelState.FALLING_ASLEEP
    await until(lambda: state(catalogue) is wanted)
    host = pid(catalogue)

    assert (await catalogue.unload("m")).state is ModelState.COLD
    with pytest.raises(ProcessLookupError):
        os.kill(host, 0)
    if not asleep:
        with pytest.raises(StateConflict, match="given up"):
            await sleeping
    assert await say(catalogue, "again") == "again"


async def test_unloading_ends_a_waking(start: Start) -> None:
    catalogue = await start(sleep_delay=0.5)
    await catalogue.sleep("m", 1)
    waking = asyncio.create_task(catalogue.wake("m"))
    await until(lambda: state(catalogue) is ModelState.WAKING)
    await catalogue.unload("m")
    with pytest.raises(StateConflict, match="is cold: that was ordered meanwhile"):
        await waking


async def test_sleeping_and_waking_by_turns_under_traffic_loses_no_request(start: Start) -> None:
    catalogue = await start()
    awake, said = pid(catalogue), 0
    resting = False

    async def ask() -> None:
        nonlocal said
        while not resting:
            try:
                assert await say(catalogue, "!words=3 a") == " word0 word1 word2"
                said += 1
            except ModelUnavailable:
                await asyncio.sleep(0.01)

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(15):
        before = said
        await catalogue.load("m")
        await until(lambda before=before: said > before)  # type: ignore[misc]
        await catalogue.sleep("m", 1)
    resting = True
    await asyncio.gather(*askers)

    assert (catalogue.status("m").requests, catalogue.status("m").waiting) == (0, 0)
    assert pid(catalogue) == awake
