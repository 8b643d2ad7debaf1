"""More work than a server has room for: R-15, and requests that are refused by the thousand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter

from attrs import field, mutable
from connection import CHAT, Connection, Reply, chat
from figures import Figure, percentile
from watched import FAKE, Watched, started

PLACES = 8
"""Requests that the fake engine answers at the same time."""

QUEUE = 32
TIMES = 10
"""Requests offered for each that can be answered."""

ANSWER = chat("!words=4 !delay=0.05")
"""Few pauses, and long: uvloop counts whole milliseconds, so that 20 of 10 ms took 200 to 211 ms by
what else woke the loop, which is a twentieth of the goodput."""

WARM_UP = 0.2
"""Share of a load at its beginning that is not counted."""

KEPT = 1.0
"""Megabytes by which memory may differ for no reason."""


@mutable
class _Pool:
    """Connections that are kept, as many as are needed at a time."""

    port: int
    idle: list[Connection] = field(factory=list)

    async def ask(self, body: bytes) -> Reply:
        """Ask on a connection that is free."""
        connection = self.idle.pop() if self.idle else await Connection.open(self.port)
        reply = await connection.ask(CHAT, body)
        self.idle.append(connection)
        return reply

    def close(self) -> None:
        """Close all that are free."""
        while self.idle:
            self.idle.pop().leave()


@mutable
class _Load:
    """What came of the requests of one load.

    Attributes:
        seconds: How long requests were sent.
        answered: When answers were whole, in seconds since the beginning.
        refusals: Responses with status 429 or 503.
        others: Responses with any other status.
        sizes: Megabytes of the server process, now and then.
        recovered: Seconds from the last request until the server was as quick as before.
    """

    seconds: float
    answered: list[float] = field(factory=list)
    refusals: list[Reply] = field(factory=list)
    others: list[Reply] = field(factory=list)
    sizes: list[float] = field(factory=list)
    recovered: float = 0.0

    @property
    def sent(self) -> int:
        """Requests sent."""
        return len(self.answered) + len(self.refusals) + len(self.others)

    @property
    def goodput(self) -> float:
        """Answers per second, without those of the beginning and of the queue at the end."""
        begin = WARM_UP * self.seconds
        counted = sum(begin <= at <= self.seconds for at in self.answered)
        return counted / (self.seconds - begin)

    def note(self, reply: Reply, at: float) -> None:
        """Count a response."""
        match reply.status:
            case 200:
                self.answered.append(at)
            case 429 | 503:
                self.refusals.append(reply)
            case _:
                self.others.append(reply)


async def overload(folder: Path, seconds: float) -> list[Figure]:
    """R-15."""
    toml = f"{FAKE}max_num_seqs = {PLACES}\n"
    server = Watched(folder, toml, {"JARVIS_QUEUE_SIZE": str(QUEUE)})
    async with started(server):
        pool = _Pool(server.port)
        alone = min([(await pool.ask(ANSWER)).seconds for _ in range(5)])
        peak = (await _at_peak(pool, max(2.0, min(15.0, seconds / 4)))).goodput
        before = server.memory()
        await server.look()
        load = await _offered(server, pool, TIMES * peak, seconds, alone)
        lag = await server.look()
        left = await server.in_flight(10)
        pool.close()
    times = [reply.seconds * 1e3 for reply in load.refusals]
    named = sum(b"\r\nretry-after:" in reply.head for reply in load.refusals)
    half = len(load.sizes) // 2
    return [
        Figure(label="peak, answers a second", value=peak),
        Figure(label="offered, requests a second", value=load.sent / seconds),
        Figure(label="refused with 429 or 503, share", value=len(load.refusals) / load.sent),
        Figure(label="neither answered nor refused", value=len(load.others), most=0),
        Figure(
            label="refusals with Retry-After, share",
            value=named / max(1, len(load.refusals)),
            least=1,
        ),
        Figure(label="time to refusal p50", value=percentile(times, 0.5), unit="ms", most=50),
        Figure(label="time to refusal p99", value=percentile(times, 0.99), unit="ms", most=50),
        Figure(label="goodput against peak", value=load.goodput / peak, least=0.95),
        Figure(label="memory grown", value=max(load.sizes) - before, unit="MB"),
        Figure(
            label="memory grown in the second half",
            value=max(load.sizes[half:]) - load.sizes[half],
            unit="MB",
            most=5,
        ),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
        Figure(label="recovered after", value=load.recovered, unit="s", most=5),
        Figure(label="still in flight then", value=left, most=0),
    ]


async def _at_peak(pool: _Pool, seconds: float) -> _Load:
    """As many clients as fill the engine and have the next request wait, never more."""
    load = _Load(seconds)
    begun = perf_counter()

    async def client() -> None:
        while perf_counter() - begun < seconds:
            load.note(await pool.ask(ANSWER), perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(2 * PLACES)))
    return load


async def _offered(
    server: Watched, pool: _Pool, rate: float, seconds: float, alone: float
) -> _Load:
    """Requests at this rate, whatever becomes of those before; then the recovery."""
    load = _Load(seconds)
    begun = perf_counter()

    async def send() -> None:
        load.note(await pool.ask(ANSWER), perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        sent = 0
        while (now := perf_counter() - begun) < seconds:
            if now >= 0.25 * len(load.sizes):
                load.sizes.append(server.memory())
            group.create_task(send())
            sent += 1
            await asyncio.sleep(max(0.0, begun + sent / rate - perf_counter()))
        load.recovered = await _recovery(pool, alone)
    return load


async def _recovery(pool: _Pool, alone: float) -> float:
    """Seconds until an answer takes no more than half as long again as on an idle server."""
    begun = perf_counter()
    while (now := perf_counter() - begun) < 60:
        reply = await pool.ask(ANSWER)
        if reply.status == 200 and reply.seconds <= 1.5 * alone:
            return now
        await asyncio.sleep(0.05)
    return now


async def refusals(folder: Path, requests: int) -> list[Figure]:
    """Requests refused while the queue is full: they leave nothing behind."""
    server = Watched(folder, f"{FAKE}max_num_seqs = 1\n", {"JARVIS_QUEUE_SIZE": "8"})
    async with started(server):
        waiting = [await Connection.open(server.port) for _ in range(9)]
        for connection in waiting:
            connection.begin_stream("!wait=9999")
        await asyncio.sleep(0.5)
        pool = _Pool(server.port)
        await _refused(pool, max(200, requests // 10))
        before, looked = server.memory(), await server.look()
        descriptors = server.descriptors()
        times = await _refused(pool, requests)
        lag = await server.look()
        after, left = server.memory(), server.descriptors() - descriptors
        for connection in waiting:
            connection.leave()
        pool.close()
        held = await server.in_flight(10)
    return [
        Figure(label="refused", value=len(times), least=requests),
        Figure(label="time to refusal p50", value=percentile(times, 0.5), unit="ms", most=50),
        Figure(label="time to refusal p99", value=percentile(times, 0.99), unit="ms", most=50),
        Figure(label="memory grown", value=after - before, unit="MB", most=KEPT),
        Figure(label="tasks left", value=lag["tasks"] - looked["tasks"], most=0),
        Figure(label="descriptors left", value=left, most=0),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
        Figure(label="in flight once the others left", value=held, most=0),
    ]


async def _refused(pool: _Pool, requests: int) -> list[float]:
    """Send requests, four at a time; the milliseconds of those that were refused."""
    times: list[float] = []

    async def client() -> None:
        for _ in range(-(-requests // 4)):
            reply = await pool.ask(ANSWER)
            if reply.status == 503:
                times.append(reply.seconds * 1e3)

    await asyncio.gather(*(client() for _ in range(4)))
    return times
