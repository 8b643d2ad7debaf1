"""Clients that leave, that do not read, and that send slowly: R-10, R-13 and R-18."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from attrs import field, mutable
from connection import CHAT, Connection, chat, request
from figures import Figure, percentile
from watched import FAKE, Watched, started

LEAVING = 100
STEP = 0.02
"""Seconds that the fake engine takes for a word to which a client listens."""

UNREAD = 20
"""Clients that do not read."""

READERS = 8
WORDS = 40_000
WORDS_WITH_LOGPROBS = 4000
"""Answers that nobody reads, of about 10 MB each: more than all buffers on the way hold."""

SLOW = 500
DRIP = 0.5
"""Seconds between two bytes of a slow client."""

# -- clients that leave ----------------------------------------------------------------------


async def leaving(folder: Path) -> list[Figure]:
    """R-10: the engine has one place, so the next client's first word tells when it was free."""
    server = Watched(folder, f"{FAKE}max_num_seqs = 1\n")
    async with started(server):
        await server.metrics()
        before, looked = server.descriptors(), await server.look()
        times = await _leave_in_turn(server)
        left = await server.in_flight(10)
        outcomes = await server.outcomes()
        after, lag = await _at_rest(server, before), await server.look()
    return [
        Figure(label="place of one who left free for the next p50", **_ms(times, 0.5)),
        Figure(label="place of one who left free for the next, worst", **_ms(times, 1.0)),
        Figure(label="in flight at the end", value=left, most=0),
        Figure(label="tasks left", value=lag["tasks"] - looked["tasks"], most=0),
        Figure(label="descriptors left", value=after - before, most=0),
        Figure(label="counted as aborted", value=outcomes["aborted"], least=LEAVING, most=LEAVING),
        Figure(label="counted as failed or expired", value=_lost(outcomes), most=0),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
    ]


async def _leave_in_turn(server: Watched) -> list[float]:
    """Clients, each waiting behind the one before, that leave; milliseconds until the next."""
    text, times = f"!words=2000 !delay={STEP}", []
    current = await Connection.open(server.port)
    current.begin_stream(text)
    await current.pieces(1)
    for _ in range(LEAVING - 1):
        following = await Connection.open(server.port)
        following.begin_stream(text)
        await current.pieces(2)
        current.leave()
        begun = perf_counter()
        await following.pieces(1)
        times.append(max(0.0, perf_counter() - begun - STEP) * 1e3)
        current = following
    await current.pieces(2)
    current.leave()
    return times


def _ms(times: list[float], share: float) -> dict[str, float | str]:
    return {"value": percentile(times, share), "unit": "ms", "most": 100 + STEP * 1e3}


def _lost(outcomes: dict[str, float]) -> float:
    return outcomes["failed"] + outcomes["expired"]


async def _at_rest(server: Watched, before: int) -> int:
    """Descriptors, once there are no more than before or after five seconds."""
    for _ in range(50):
        if server.descriptors() <= before:
            break
        await asyncio.sleep(0.1)
    return server.descriptors()


# -- clients that do not read ----------------------------------------------------------------


async def unread(folder: Path, seconds: float, *, logprobs: bool = False) -> list[Figure]:
    """R-13, with plain text or with log probabilities."""
    limit = min(60.0, seconds)
    part = min(15.0, seconds / 4)
    server = Watched(
        folder, f"{FAKE}context_length = 65536\n", {"JARVIS_WRITE_TIMEOUT": str(limit)}
    )
    words = WORDS_WITH_LOGPROBS if logprobs else WORDS
    fields = {"logprobs": True, "top_logprobs": 20} if logprobs else {}
    long = chat(f"!words={words}", stream=True, **fields)
    async with started(server):
        first = await Connection.open(server.port)
        first.writer.write(request(CHAT, long))
        await first.pieces(words // 2)  # whatever is made once is made
        first.leave()
        await server.in_flight(10)
        before_rate = await _rate(server, part)
        before = server.memory()
        socks = [await _ask_without_reading(server.port, long) for _ in range(UNREAD)]
        begun = perf_counter()
        sizes = asyncio.create_task(_sizes(server))
        await _buffers_full(server)
        meanwhile = await _rate(server, part)
        aborted = await _until_aborted(server, UNREAD + 1, begun, limit + 60)
        sizes.cancel()
        grown = max(await sizes) - before
        for sock in socks:
            sock.close()
        after_rate = await _rate(server, part)
        left = await server.in_flight(10)
    usual = (before_rate + after_rate) / 2
    return [
        Figure(label="memory grown", value=grown, unit="MB", most=20),
        Figure(label="others' streams a second, before", value=before_rate),
        Figure(label="others' streams a second, meanwhile", value=meanwhile),
        Figure(label="others' streams a second, after", value=after_rate),
        Figure(label="meanwhile against before and after", value=meanwhile / usual, least=0.95),
        Figure(label=f"all aborted, limit {limit:g} s", value=aborted, unit="s", most=1.5 * limit),
        Figure(label="in flight at the end", value=left, most=0),
    ]


async def _rate(server: Watched, seconds: float) -> float:
    """Streams a second of clients that read."""
    begun, whole = perf_counter(), 0

    async def client() -> None:
        nonlocal whole
        connection = await Connection.open(server.port)
        while perf_counter() - begun < seconds:
            await connection.ask(CHAT, chat("!words=20 !delay=0.005", stream=True))
            whole += 1
        connection.leave()

    await asyncio.gather(*(client() for _ in range(READERS)))
    return whole / (perf_counter() - begun)


async def _ask_without_reading(port: int, body: bytes) -> socket.socket:
    """A socket of which nobody reads, with as small a buffer as there is."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, request(CHAT, body))
    return sock


async def _buffers_full(server: Watched) -> None:
    """Wait until nothing more is written, which shows in the CPU time."""
    before = -1.0
    while (now := server.cpu_seconds()) - before > 0.05:
        before = now
        await asyncio.sleep(0.5)


async def _sizes(server: Watched) -> list[float]:
    """Megabytes of the server process, now and then until this is cancelled."""
    sizes = [server.memory()]
    try:
        while True:
            await asyncio.sleep(0.1)
            sizes.append(server.memory())
    except asyncio.CancelledError:
        return sizes


async def _until_aborted(server: Watched, count: int, begun: float, within: float) -> float:
    """Seconds since ``begun`` until so many requests were aborted."""
    while (now := perf_counter() - begun) < within:
        if (await server.outcomes())["aborted"] >= count:
            break
        await asyncio.sleep(0.1)
    return now


# -- clients that send slowly ----------------------------------------------------------------


@mutable
class _Cuts:
    """When connections were cut.

    Attributes:
        header: Seconds from the connection.
        body: Seconds from the end of the headers.
        told: How many were told why, with status 408.
    """

    header: list[float] = field(factory=list)
    body: list[float] = field(factory=list)
    told: int = 0


async def slow(folder: Path, seconds: float) -> list[Figure]:
    """R-18."""
    header, body = min(10.0, seconds / 4), min(30.0, seconds / 2)
    limits = {"JARVIS_HEADER_TIMEOUT": str(header), "JARVIS_BODY_TIMEOUT": str(body)}
    server = Watched(folder, FAKE, limits)
    head = request(CHAT, b"")[:-4].replace(b"Length: 0", b"Length: 100000")
    cuts = _Cuts()
    async with started(server):
        await server.metrics()
        before, looked = server.descriptors(), await server.look()
        alone = await _healthy(server, lambda: asyncio.sleep(2.0))
        begun = [
            *(_drip(server, head + b"\r\nX-Drip: ", cuts.header, cuts) for _ in range(SLOW // 2)),
            *(_drip(server, head + b"\r\n\r\n{", cuts.body, cuts) for _ in range(SLOW // 2)),
        ]
        times = await _healthy(server, lambda: asyncio.gather(*begun))
        after, lag = await _at_rest(server, before), await server.look()
    late = min(2.0, header / 4) + 1.0  # deadlines are looked at now and then
    return [
        Figure(label="first header cut", value=min(cuts.header), unit="s", least=header),
        Figure(label="last header cut", value=max(cuts.header), unit="s", most=header + late),
        Figure(label="first body cut", value=min(cuts.body), unit="s", least=body),
        Figure(label="last body cut", value=max(cuts.body), unit="s", most=body + late),
        Figure(label="told so with 408, of 500", value=cuts.told, least=SLOW),
        Figure(label="/health/live p99 before", value=percentile(alone, 0.99), unit="ms"),
        Figure(label="/health/live p99", value=percentile(times, 0.99), unit="ms", most=100),
        Figure(label="/health/live, worst", value=max(times), unit="ms"),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
        Figure(label="tasks left", value=lag["tasks"] - looked["tasks"], most=0),
        Figure(label="descriptors left", value=after - before, most=0),
    ]


async def _drip(server: Watched, head: bytes, times: list[float], cuts: _Cuts) -> None:
    """Send the head, then a byte now and then until the server has enough of it."""
    connection = await Connection.open(server.port)
    begun = perf_counter()
    connection.writer.write(head)
    answer = asyncio.create_task(connection.reader.read(65536))
    while not (await asyncio.wait([answer], timeout=DRIP))[0]:
        connection.writer.write(b"x")
    times.append(perf_counter() - begun)
    with suppress(ConnectionError):  # cut without a word
        cuts.told += answer.result().startswith(b"HTTP/1.1 408 ")
    connection.leave()


async def _healthy(server: Watched, during: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of health checks on connections of their own, while something goes on."""
    times: list[float] = []
    going = asyncio.ensure_future(during())
    while not going.done():
        begun = perf_counter()
        connection = await Connection.open(server.port)
        await connection.ask("/health/live")
        times.append((perf_counter() - begun) * 1e3)
        connection.leave()
        await asyncio.sleep(0.02)
    await going
    return times
