"""Models by name: loaded at start or on demand, replaced when their host dies, leased, unloaded."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import evolve

from jarvis_core.chat import Fold
from jarvis_core.errors import (
    ConfigError,
    EngineDied,
    InsufficientMemory,
    ModelNotFound,
    ModelSourceError,
    ModelUnavailable,
    PoisonRequest,
    QueueFull,
    StateConflict,
)
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.events import ModelEvent
from jarvis_core.models.lease import Lease
from jarvis_core.models.sampling import SamplingDefault
from jarvis_core.models.status import ModelState, ModelStatus
from jarvis_core.models.turns import Claim
from jarvis_core.settings import ModelConfig, ServerSettings
from jarvis_core.settings.sampling import SamplingSettings
from jarvis_core.structs import ChatRequest, Message

pytestmark = pytest.mark.anyio

SETTINGS = ServerSettings(
    heartbeat_interval=0.05,
    heartbeat_stale=5.0,  # a busy machine is not a hung host
    heartbeat_timeout=20.0,
    restart_backoff=0.05,
    load_wait=20.0,
    drain_timeout=0.5,
)

Make = Callable[..., Catalogue]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes catalogues of fake models, and ends their hosts with the test."""
    async with AsyncExitStack() as stack:

        def make(
            *configs: ModelConfig,
            settings: ServerSettings = SETTINGS,
            announce: Callable[[ModelEvent], None] = lambda event: None,
        ) -> Catalogue:
            catalogue = Catalogue({c.name: c for c in configs}, settings, announce)
            stack.push_async_callback(catalogue.aclose)
            return catalogue

        yield make


def fake(name: str = "m", **fields: Any) -> ModelConfig:
    return ModelConfig(**({"name": name, "source": f"fake/{name}", "engine": "fake"} | fields))


async def say(catalogue: Catalogue, text: str, model: str = "m") -> str | None:
    request = ChatRequest(model=model, messages=(Message(role="user", content=text),))
    async with catalogue.lease(model) as lease:
        stream = await lease.stream(request, request_id="r")
        fold = Fold()
        try:
            async for batch in stream:
                for delta in batch:
                    fold.add(delta)
        finally:
            await stream.aclose()
    return fold.completion().answers[0].content


def pid(catalogue: Catalogue, name: str = "m") -> int:
    found = catalogue._models[name].host.pid
    assert found is not None
    return found


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


async def test_preloaded_models_load_at_start_and_others_on_their_first_request(make: Make) -> None:
    catalogue = make(fake("a"), fake("b", preload=False))
    await catalogue.start()
    assert not catalogue.ready()
    await catalogue.settled()
    assert catalogue.ready()
    assert [s.state for s in catalogue.statuses()] == [ModelState.READY, ModelState.COLD]
    assert await say(catalogue, "hello", "b") == "hello"
    assert catalogue.status("b").state is ModelState.READY


async def test_concurrent_first_requests_load_the_model_once(make: Make) -> None:
    events: list[ModelEvent] = []
    catalogue = make(fake(preload=False), announce=events.append)
    texts = [f"text {i}" for i in range(10)]
    assert await asyncio.gather(*(say(catalogue, t) for t in texts)) == texts
    assert [e.kind for e in events] == ["loading", "ready"]


async def test_a_model_goes_before_others_that_have_its_name_for_a_source(make: Make) -> None:
    catalogue = make(fake("a", source="b"), fake("b"), fake("c", source="b"))
    assert catalogue.status("b").name == "b"
    assert make(fake("a", source="s"), fake("b", source="s")).status("s").name == "a"


async def test_a_source_goes_before_an_adapter_of_its_name(make: Make) -> None:
    catalogue = make(fake("a", adapters={"poet": "/poet"}, preload=False), fake("b", source="poet"))
    async with catalogue.lease("poet") as lease:
        assert (lease.status.name, lease.adapter) == ("b", None)


async def test_a_request_that_comes_right_after_a_host_died_waits_for_the_next(make: Make) -> None:
    catalogue = make(fake())
    assert await say(catalogue, "one") == "one"
    host = catalogue._models["m"].host
    os.kill(pid(catalogue), signal.SIGKILL)
    while not host.lost:
        await asyncio.sleep(0)
    assert catalogue.status("m").state is ModelState.READY  # nobody has noticed
    assert await say(catalogue, "two") == "two"


async def test_alias_and_source_find_the_model_and_other_names_are_refused(make: Make) -> None:
    catalogue = make(fake("m", aliases=("gpt-4",)))
    assert {catalogue.status(n).name for n in ("m", "gpt-4", "fake/m")} == {"m"}
    with pytest.raises(ModelNotFound, match="'x' does not exist; there are: m"):
        catalogue.status("x")


async def test_model_with_a_python_of_its_own_is_hosted_by_it(make: Make) -> None:
    catalogue = make(fake("own", python=sys.executable), fake("bad", python="/no/python"))
    await catalogue.start()
    await catalogue.settled()
    assert await say(catalogue, "hello", "own") == "hello"
    with pytest.raises(ConfigError, match="cannot start /no/python"):
        await say(catalogue, "hello", "bad")


async def test_killed_host_is_replaced_and_other_models_go_on(make: Make) -> None:
    """R-01."""
    catalogue = make(fake("a"), fake("b"))
    await catalogue.start()
    await catalogue.settled()
    other = [asyncio.create_task(say(catalogue, f"!delay=0.01 text {i}", "b")) for i in range(4)]
    hit = [asyncio.create_task(say(catalogue, "!words=9999 !delay=0.01", "a")) for _ in range(8)]
    await until(lambda: catalogue.status("a").requests == 8 and not catalogue.status("a").waiting)
    killed = pid(catalogue, "a")
    os.kill(killed, signal.SIGKILL)
    await until(lambda: not catalogue.ready(), 3.0)
    results = await asyncio.gather(*hit, return_exceptions=True)
    assert [type(r) for r in results] == [EngineDied] * 8
    assert await asyncio.gather(*other) == [f"!delay=0.01 text {i}" for i in range(4)]
    await until(catalogue.ready)
    assert pid(catalogue, "a") != killed
    assert await say(catalogue, "again", "a") == "again"


async def test_last_words_of_a_host_reach_no_client(make: Make) -> None:
    """S-09: they may hold paths and tracebacks; the log has them."""
    catalogue = make(fake())
    await catalogue.start()
    await catalogue.settled()
    with pytest.raises(EngineDied) as raised:
        await say(catalogue, "!abort=1 now")
    await until(lambda: catalogue.status("m").error is not None)
    assert "ASSERT" not in raised.value.message + (catalogue.status("m").error or "")


async def test_request_during_a_restart_waits_for_it(make: Make) -> None:
    catalogue = make(fake(settings={"load_delay": 0.3}))
    await catalogue.start()
    await catalogue.settled()
    os.kill(pid(catalogue), signal.SIGKILL)
    await until(lambda: not catalogue.ready())
    assert await say(catalogue, "patience") == "patience"


async def test_host_that_dies_at_start_is_tried_with_growing_pauses_then_failed(
    make: Make, tmp_path: Path
) -> None:
    """R-05."""
    flag = tmp_path / "flag"
    flag.touch()
    begins: list[float] = []

    def announce(event: ModelEvent) -> None:
        if event.kind == "loading" and event.model == "bad":
            begins.append(time.monotonic())

    bad = fake("bad", settings={"load_fault": "die", "fault_file": str(flag)})
    catalogue = make(bad, fake("good"), announce=announce)
    await catalogue.start()
    await until(lambda: catalogue.status("bad").state is ModelState.FAILED, 30)
    assert len(begins) == 5
    pauses = [b - a for a, b in itertools.pairwise(begins)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert pause >= least
    assert await say(catalogue, "unharmed", "good") == "unharmed"
    with pytest.raises(EngineDied, match="5 times in a row"):
        await say(catalogue, "hi", "bad")
    flag.unlink()
    assert (await catalogue.load("bad")).state is ModelState.READY


async def test_host_that_keeps_dying_once_it_is_ready_is_tried_with_growing_pauses(
    make: Make,
) -> None:
    ended: list[float] = []
    pauses: list[float] = []
    meanwhile: list[ModelStatus] = []

    def announce(event: ModelEvent) -> None:
        if event.kind == "loading" and ended:
            pauses.append(time.monotonic() - ended[-1])
            meanwhile.append(catalogue.status("m"))
        if event.kind == "ready" and len(ended) < 4:
            os.kill(pid(catalogue), signal.SIGKILL)
            ended.append(time.monotonic())

    settings = evolve(SETTINGS, restart_backoff=0.1)
    catalogue = make(fake(), settings=settings, announce=announce)
    await catalogue.start()
    await until(lambda: len(ended) == 4 and not catalogue.ready(), 30)
    await until(catalogue.ready, 30)

    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert pause >= least
    last = meanwhile[-1]
    assert (last.state, last.healthy, last.info) == (ModelState.LOADING, False, None)
    assert last.error == (
        "the engine host was ended by SIGKILL; that was 4 times in a row, and it is started again "
        "after a pause of 0.8 s"
    )
    assert catalogue.status("m").error is None
    assert await say(catalogue, "at last") == "at last"


async def test_a_long_pause_is_told_at_once_and_cut_short_by_load(make: Make) -> None:
    catalogue = make(fake(), settings=evolve(SETTINGS, restart_backoff=300.0))
    await catalogue.start()
    await catalogue.settled()
    os.kill(pid(catalogue), signal.SIGKILL)
    await until(lambda: catalogue.status("m").error is not None)

    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match="is loading: .*ended by SIGKILL") as caught:
        await say(catalogue, "patience")
    assert time.monotonic() - began < SETTINGS.load_wait / 2
    assert caught.value.retry_after is not None
    assert 200 < caught.value.retry_after <= 300

    assert (await catalogue.load("m")).state is ModelState.READY
    assert await say(catalogue, "at last") == "at last"


@pytest.mark.parametrize(
    ("fault", "error"),
    [("missing", ModelSourceError), ("memory", InsufficientMemory), ("bug", ConfigError)],
)
async def test_model_that_cannot_be_loaded_fails_at_once_and_harms_no_other(
    make: Make, fault: str, error: type[Exception]
) -> None:
    """R-16."""
    catalogue = make(fake("bad", settings={"load_fault": fault}, preload=False), fake("good"))
    await catalogue.start()
    with pytest.raises(error, match="model 'bad' failed to load"):
        await say(catalogue, "hi", "bad")
    status = catalogue.status("bad")
    assert status.state is ModelState.FAILED
    assert status.error
    assert await say(catalogue, "unharmed", "good") == "unharmed"


async def test_silent_host_is_not_ready_and_requests_are_turned_away(make: Make) -> None:
    """R-03."""
    settings = ServerSettings(
        heartbeat_interval=0.05, heartbeat_stale=1.0, heartbeat_timeout=30.0, restart_backoff=0.05
    )
    catalogue = make(fake(), settings=settings)
    await catalogue.start()
    await catalogue.settled()
    stopped = pid(catalogue)
    os.kill(stopped, signal.SIGSTOP)
    await until(lambda: not catalogue.ready())
    with pytest.raises(ModelUnavailable, match="does not answer"):
        await say(catalogue, "hi")
    os.kill(stopped, signal.SIGCONT)
    await until(catalogue.ready)
    assert await say(catalogue, "awake") == "awake"


async def test_unload_lets_requests_end_and_the_next_request_loads_again(make: Make) -> None:
    catalogue = make(fake(), settings=evolve(SETTINGS, drain_timeout=20.0))
    await catalogue.start()
    await catalogue.settled()
    last = asyncio.create_task(say(catalogue, "!words=20 !delay=0.01"))
    await until(lambda: catalogue.status("m").requests == 1)
    first = pid(catalogue)
    assert (await catalogue.unload("m")).state is ModelState.COLD
    assert len((await last or "").split()) == 20
    assert catalogue.ready()
    assert await say(catalogue, "again") == "again"
    assert pid(catalogue) != first


async def test_unload_ends_requests_that_outlast_the_drain(make: Make) -> None:
    catalogue = make(fake())
    await catalogue.start()
    await catalogue.settled()
    endless = asyncio.create_task(say(catalogue, "!words=9999 !delay=0.05"))
    await until(lambda: not catalogue.status("m").waiting and catalogue.status("m").requests == 1)
    await catalogue.unload("m")
    with pytest.raises(EngineDied):
        await endless


async def test_unload_while_loading_ends_the_load(make: Make) -> None:
    catalogue = make(fake(settings={"load_delay": 30.0}))
    await catalogue.start()
    await asyncio.sleep(0.3)
    assert (await catalogue.unload("m")).state is ModelState.COLD


async def test_one_key_leaves_room_in_the_queue_even_while_the_model_loads(make: Make) -> None:
    settings = evolve(SETTINGS, queue_size=4)
    catalogue = make(fake(settings={"load_delay": 60.0}), settings=settings)
    await catalogue.start()
    busy, calm = (Claim(tenant=name, shared=True) for name in ("busy", "calm"))

    async def wait(claim: Claim) -> None:
        async with catalogue.lease("m", claim):
            pass

    waiting = [asyncio.create_task(wait(busy)) for _ in range(3)]
    await until(lambda: catalogue.status("m").waiting == 3)
    with pytest.raises(QueueFull, match="3 requests of this API key"):
        await wait(busy)
    waiting.append(asyncio.create_task(wait(calm)))
    await until(lambda: catalogue.status("m").waiting == 4)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert catalogue.status("m").waiting == 0


async def test_the_queue_takes_a_burst_of_one_key_by_default(make: Make) -> None:
    catalogue = make(fake(settings={"load_delay": 60.0}), settings=ServerSettings())
    busy = Claim(tenant="busy", shared=True)
    async with AsyncExitStack() as stack:
        for _ in range(200):
            lease = Lease(catalogue._models["m"], claim=busy)
            stack.callback(lease.release)
        assert catalogue.status("m").waiting == 200
    assert catalogue.status("m").waiting == 0


async def test_full_queue_turns_requests_away(make: Make) -> None:
    catalogue = make(fake(), settings=ServerSettings(queue_size=2, heartbeat_interval=0.05))
    await catalogue.start()
    await catalogue.settled()
    waiting = [asyncio.create_task(say(catalogue, "!wait=0.5 done")) for _ in range(2)]
    await until(lambda: catalogue.status("m").waiting == 2)
    with pytest.raises(QueueFull):
        await say(catalogue, "hi")
    assert await asyncio.gather(*waiting) == ["!wait=0.5 done"] * 2
    assert await say(catalogue, "room again") == "room again"


async def test_request_does_not_wait_longer_for_a_load_than_allowed(make: Make) -> None:
    settings = ServerSettings(load_wait=0.1)
    catalogue = make(fake(settings={"load_delay": 30.0}), settings=settings)
    await catalogue.start()
    with pytest.raises(ModelUnavailable, match="is loading") as raised:
        await say(catalogue, "hi")
    assert raised.value.retry_after


async def test_requests_that_come_and_go_leave_nothing_behind(make: Make) -> None:
    """R-10, R-11, the catalogue's part."""
    catalogue = make(fake())
    await catalogue.start()
    await catalogue.settled()
    for i in range(20):
        task = asyncio.create_task(say(catalogue, "!words=2000 !delay=0.01"))
        await asyncio.sleep(0.002 * i)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    status = catalogue.status("m")
    assert (status.requests, status.waiting) == (0, 0)
    await until(lambda: (stats := catalogue.status("m").stats) is not None and not stats.running)
    assert len(catalogue._models["m"].host._pending) == 0


async def test_request_that_kills_its_host_alone_is_refused_and_its_neighbours_succeed(
    make: Make,
) -> None:
    """R-06."""
    catalogue = make(fake())
    await catalogue.start()
    await catalogue.settled()
    neighbours = [f"!words=200 !delay=0.01 n{i}" for i in range(4)]
    running = [asyncio.create_task(say(catalogue, text)) for text in neighbours]
    await until(lambda: catalogue.status("m").requests == 4 and not catalogue.status("m").waiting)
    with pytest.raises(EngineDied):
        await say(catalogue, "!die=1 bad")
    died = await asyncio.gather(*running, return_exceptions=True)
    assert [type(r) for r in died] == [EngineDied] * 4
    again = [asyncio.create_task(say(catalogue, t.replace("200", "5"))) for t in neighbours]
    assert len(await asyncio.gather(*again)) == 4
    with pytest.raises(EngineDied):
        await say(catalogue, "!die=1 bad")
    await until(catalogue.ready)
    alive = pid(catalogue)
    with pytest.raises(PoisonRequest):
        await say(catalogue, "!die=1 bad")
    assert pid(catalogue) == alive
    assert await say(catalogue, "good") == "good"


async def test_unload_goes_on_when_who_asked_for_it_leaves(make: Make) -> None:
    catalogue = make(fake())
    await catalogue.start()
    await catalogue.settled()
    running = asyncio.create_task(say(catalogue, "!words=20 !delay=0.02"))
    await until(lambda: catalogue.status("m").requests == 1)
    leaving = asyncio.create_task(catalogue.unload("m"))
    await until(lambda: catalogue.status("m").state is ModelState.UNLOADING)
    leaving.cancel()
    await asyncio.gather(leaving, running, return_exceptions=True)
    await until(lambda: catalogue.status("m").state is ModelState.COLD)
    assert await say(catalogue, "again") == "again"


async def test_host_that_dies_while_its_model_is_unloaded_is_not_replaced(make: Make) -> None:
    events: list[ModelEvent] = []
    settings = evolve(SETTINGS, drain_timeout=2.0)
    catalogue = make(fake(), settings=settings, announce=events.append)
    await catalogue.start()
    await catalogue.settled()
    async with catalogue.lease("m"):  # a request that waits in front of the engine
        unloading = asyncio.create_task(catalogue.unload("m"))
        await until(lambda: catalogue.status("m").state is ModelState.UNLOADING)
        os.kill(pid(catalogue), signal.SIGKILL)
        await asyncio.sleep(0.5)
        assert catalogue.status("m").state is ModelState.UNLOADING
    assert (await unloading).state is ModelState.COLD
    assert [event.kind for event in events] == ["loading", "ready"]


async def test_load_that_is_overtaken_by_an_unload_does_not_claim_to_be_ready(make: Make) -> None:
    catalogue = make(fake(settings={"load_delay": 30.0}, preload=False))
    loading = asyncio.create_task(catalogue.load("m"))
    await until(lambda: catalogue.status("m").state is ModelState.LOADING)
    await catalogue.unload("m")
    with pytest.raises(StateConflict, match="'m' is cold"):
        await loading


async def test_a_models_sampling_is_settled_when_it_is_loaded(make: Make) -> None:
    recommended = {"temperature": 0.6, "top_p": 0.9}
    sampling = SamplingSettings(top_p=0.5)
    catalogue = make(fake(settings={"sampling": recommended}, sampling=sampling, preload=False))
    assert catalogue.status("m").sampling == {}
    await catalogue.load("m")
    assert catalogue.status("m").sampling == {
        "temperature": SamplingDefault(value=0.6, origin="model"),
        "top_p": SamplingDefault(value=0.5, origin="setting"),
    }
    async with catalogue.lease("m") as lease:
        assert lease.info.sampling == {"temperature": 0.6, "top_p": 0.5}
    await catalogue.unload("m")
    assert catalogue.status("m").sampling == {}


async def test_sampling_that_the_loaded_model_cannot_honour_fails_it(make: Make) -> None:
    catalogue = make(fake(sampling=SamplingSettings(min_p=0.1)))
    await catalogue.start()
    await catalogue.settled()
    status = catalogue.status("m")
    assert status.state is ModelState.FAILED
    assert status.info is None
    assert "cannot honour min_p: remove it from [models.m.sampling]" in (status.error or "")


async def test_the_log_says_that_a_model_was_unloaded(make: Make) -> None:
    with structlog.testing.capture_logs() as logs:
        catalogue = make(fake())
        await catalogue.load("m")
        await catalogue.unload("m")
    assert logs[-1] == {"event": "model unloaded", "log_level": "info", "model": "m"}


async def test_the_log_says_how_a_model_is_sampled_in_one_line(make: Make) -> None:
    recommended = {"temperature": 0.6, "top_k": 20}
    with structlog.testing.capture_logs() as logs:
        catalogue = make(fake(settings={"sampling": recommended}))
        await catalogue.load("m")
    assert {
        "event": "sampling defaults",
        "log_level": "info",
        "model": "m",
        "values": "temperature 0.6 (model)",
    } in logs
    (warned,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warned["model"], warned["values"]) == ("m", {"top_k": 20})
