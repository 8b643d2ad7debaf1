"""The HTTP front with a fake engine, beside starlette on uvicorn with the same frames.

    python benchmarks/http.py [--rounds 5] [--seconds 4] [--json FILE]

Needs starlette and uvicorn beside what Jarvis needs. Prints

- CPU time of the server process for each streamed chunk, 64 streams at once;
- streams of 64 chunks per second, 32 at once, both servers in turn, and their ratio;
- the lag of the server's event loop meanwhile;
- memory of the idle server process, and seconds from start to listening.

Jarvis does its whole work: keys, checks, an engine host in a process of its own, chunks made from
deltas. Its peer writes frames that are ready in memory, which is the least that a server can do.
"""

from __future__ import annotations

import sys

# As a script this file's folder comes first, where this very file is `http`.
sys.path = [*sys.path[1:], sys.path[0]] if __name__ == "__main__" else sys.path

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import uvloop
from probe import Probe

CHUNKS = 64
"""Pieces of text in a stream."""

LONG_CHUNKS = 1000
"""The same where the cost of a request should not count."""

# -- servers, each a process of its own ------------------------------------------------------


def serve_jarvis() -> int:
    """Jarvis with the fake engine."""
    from jarvis_core.http.serve import run
    from jarvis_core.plugins import load_plugins
    from jarvis_core.settings import ModelConfig, ServerSettings, Settings

    probe = Probe()

    def announce(event: Any) -> None:
        if event.kind == "listening":
            probe.start()
            print(json.dumps({"url": event.message}), flush=True)
        if event.kind == "ready":
            print(json.dumps({"ready": True}), flush=True)

    model = ModelConfig(name="bench", source="fake/bench", engine="fake")
    settings = Settings(server=ServerSettings(port=0, log_level="warning"), models={"bench": model})
    return run(settings, load_plugins(), announce=announce)


def serve_starlette() -> int:
    """Starlette on uvicorn, with frames that are ready."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def chat(request: Request) -> StreamingResponse:
        body = orjson.loads(await request.body())
        words = int(body["messages"][0]["content"].partition("!words=")[2])

        async def stream() -> AsyncIterator[bytes]:
            yield _frame({"role": "assistant", "content": "", "refusal": None})
            for i in range(words):
                await asyncio.sleep(0)
                yield frames[i]
            yield _frame({}) + b"data: [DONE]\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    frames = [_frame({"content": f" word{i}"}) for i in range(LONG_CHUNKS)]
    probe = Probe()
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])

    async def main() -> None:
        config = uvicorn.Config(app, port=0, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        probe.start()
        port = server.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        print(json.dumps({"ready": True}), flush=True)
        await serving

    uvloop.run(main())
    return 0


def _frame(delta: dict[str, Any]) -> bytes:
    """A chunk as Jarvis writes it."""
    chunk = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
        "system_fingerprint": "fake/fake 1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


SERVERS: dict[str, Callable[[], int]] = {"jarvis": serve_jarvis, "starlette": serve_starlette}


class Server:
    """A server process.

    Attributes:
        name: Which.
        port: Where it listens.
        listening: Seconds from its start until it listened.
        rss: Bytes of memory while nothing had been asked yet.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdout=subprocess.PIPE,
            env={**os.environ, "JARVIS_PLUGINS": "jarvis_core.testing.fake"},
        )
        self.port = int(self._line()["url"].rpartition(":")[2])
        self.listening = time.perf_counter() - began
        self._line()
        time.sleep(0.5)
        self.rss = int(_ps(self._process.pid, "rss")) * 1024

    def look(self) -> dict[str, float]:
        """CPU seconds since its start, and the loop's lag since the last look."""
        self._process.send_signal(signal.SIGUSR1)
        return self._line()

    def end(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended")
        return json.loads(line)


def _ps(pid: int, column: str) -> str:
    found = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return found.stdout


# -- the client ------------------------------------------------------------------------------


class Stream(asyncio.Protocol):
    """One connection that asks for one stream after another."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._done: asyncio.Future[None] | None = None
        self._tail = b""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    async def ask(self) -> None:
        """One stream, whole."""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        await self._done

    def data_received(self, data: bytes) -> None:
        """Only look whether the stream is over: the client shares the machine."""
        self._tail = data if len(data) > 16 else self._tail[-16:] + data
        if self._tail.endswith(b"0\r\n\r\n") and self._done is not None:
            self._done.set_result(None)
            self._tail = b""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Say so if a stream was still running."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(SystemExit("a stream was cut"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def _request(words: int) -> bytes:
    content = f"!words={words}"
    body = orjson.dumps(
        {"model": "bench", "stream": True, "messages": [{"role": "user", "content": content}]}
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


async def load(port: int, *, concurrency: int, words: int, seconds: float) -> tuple[int, float]:
    """Ask for streams for so long; the number that were whole, and the seconds that it took."""
    loop = asyncio.get_running_loop()
    request = _request(words)
    connections = [
        (await loop.create_connection(lambda: Stream(request), "127.0.0.1", port))[1]
        for _ in range(concurrency)
    ]
    began = time.perf_counter()
    end = began + seconds

    async def work(connection: Stream) -> int:
        streams = 0
        while time.perf_counter() < end:
            await connection.ask()
            streams += 1
        return streams

    streams = sum(await asyncio.gather(*map(work, connections)))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return streams, took


# -- what is measured ------------------------------------------------------------------------


async def chunk_cpu(server: Server, seconds: float) -> float:
    """Microseconds of the server process's CPU for each chunk, 64 long streams at once."""
    before = server.look()["cpu"]
    streams, _ = await load(server.port, concurrency=64, words=LONG_CHUNKS, seconds=seconds)
    return (server.look()["cpu"] - before) / (streams * LONG_CHUNKS) * 1e6


async def streams_per_second(server: Server, seconds: float) -> tuple[float, float]:
    """Streams of 64 chunks per second, 32 at once; and the loop's lag at p99.9 in milliseconds."""
    server.look()
    streams, took = await load(server.port, concurrency=32, words=CHUNKS, seconds=seconds)
    return streams / took, server.look()["p999"] * 1e3


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Everything, both servers in turn."""
    servers = [Server(name) for name in SERVERS]
    try:
        for server in servers:
            await load(server.port, concurrency=8, words=CHUNKS, seconds=0.5)
        results: dict[str, Any] = {
            server.name: {
                "listening_s": server.listening,
                "rss_mb": server.rss / 1e6,
                "chunk_cpu_us": [],
                "streams_per_s": [],
                "lag_p999_ms": [],
            }
            for server in servers
        }
        for _ in range(rounds):
            for server in servers:
                mine = results[server.name]
                mine["chunk_cpu_us"].append(await chunk_cpu(server, seconds))
                rate, lag = await streams_per_second(server, seconds)
                mine["streams_per_s"].append(rate)
                mine["lag_p999_ms"].append(lag)
    finally:
        for server in servers:
            server.end()
    return results


def machine() -> dict[str, str]:
    """What it ran on."""
    packages = ("jarvis-core", "sanic", "uvloop", "starlette", "uvicorn")
    return {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def version_seconds() -> float:
    """Seconds that ``jarvis --version`` takes."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "jarvis_core", "--version"], check=True, capture_output=True
    )
    return time.perf_counter() - began


def show(results: dict[str, Any]) -> None:
    """Print a table: median, and the least and greatest of the rounds."""
    rows = (
        ("CPU per chunk, c = 64", "chunk_cpu_us", "µs", "≤ 15"),
        ("streams of 64 chunks, c = 32", "streams_per_s", "/s", "more than starlette"),
        ("event-loop lag p99.9, c = 32", "lag_p999_ms", "ms", "≤ 10"),
    )
    for name, found in results.items():
        print(f"\n{name}")
        for label, key, unit, bar in rows:
            values = found[key]
            spread = f"({min(values):.1f} to {max(values):.1f})"
            print(f"  {label:32}{median(values):8.1f} {unit:3} {spread:20}", end="")
            print(f"bar: {bar}" if name == "jarvis" else "")
        print(f"  {'idle memory':32}{found['rss_mb']:8.1f} MB", end=" " * 22)
        print("bar: ≤ 90" if name == "jarvis" else "")
        print(f"  {'start to listening':32}{found['listening_s']:8.2f} s", end=" " * 23)
        print("bar: ≤ 1.5" if name == "jarvis" else "")
    pairs = zip(
        results["jarvis"]["streams_per_s"], results["starlette"]["streams_per_s"], strict=True
    )
    ratios = [mine / theirs for mine, theirs in pairs]
    print(f"\nstreams per second, jarvis : starlette  {median(ratios):.2f} ", end="")
    print("(" + ", ".join(f"{ratio:.2f}" for ratio in ratios) + ")")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both servers (5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load (4)")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return SERVERS[args.serve]()
    ran_on = machine()
    for name, text in ran_on.items():
        print(f"{name}: {text}")
    results = uvloop.run(measure(args.rounds, args.seconds))
    show(results)
    starts = [version_seconds() for _ in range(5)]
    print(f"jarvis --version{median(starts):26.2f} s   bar: ≤ 0.3")
    if args.json:
        everything = {"ran_on": ran_on, "servers": results, "version_s": starts}
        args.json.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
