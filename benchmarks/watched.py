"""A Jarvis whose memory, descriptors, tasks, event loop and metrics are watched from outside."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import orjson
from connection import Connection, chat
from processes import Server, free_port

_SAMPLE = re.compile(r"^(jarvis_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

FAKE = '[models.bench]\nsource = "fake/bench"\nengine = "fake"\n[models.bench.settings]\n'
"""A ``jarvis.toml`` with one fake model, to which its settings are added."""

FAKE_ENVIRON = {"JARVIS_PLUGINS": "jarvis_core.testing.fake"}

IN_FLIGHT = ("jarvis_requests_running", "jarvis_requests_waiting")
"""Gauges that are 0 where nothing is being answered."""


class Watched(Server):
    """A server with a probe inside.

    Args:
        folder: An empty folder for it.
        toml: Its ``jarvis.toml``.
        environ: Its settings.
        admin: A key that may read the metrics, where keys are needed.
    """

    def __init__(
        self, folder: Path, toml: str, environ: dict[str, str] | None = None, *, admin: str = ""
    ) -> None:
        port = free_port()
        folder.mkdir()
        (folder / "jarvis.toml").write_text(toml)
        self._admin = admin
        self._report = folder / "probe.jsonl"
        program = Path(__file__).with_name("probed_server.py")
        super().__init__(
            "jarvis",
            [sys.executable, str(program), str(self._report)],
            port,
            folder,
            environ={**FAKE_ENVIRON, "JARVIS_PORT": str(port), **(environ or {})},
        )

    @property
    def pid(self) -> int:
        """Its process, without its children."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    async def look(self) -> dict[str, float]:
        """What its probe saw since the last look.

        Raises:
            TimeoutError: It does not answer.
        """
        before = len(self._report.read_bytes())
        os.kill(self.pid, signal.SIGUSR1)
        async with asyncio.timeout(10):
            while not (new := self._report.read_bytes()[before:]).endswith(b"\n"):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        seen: dict[str, float] = orjson.loads(new)
        return seen

    def memory(self, pid: int | None = None) -> float:
        """Megabytes of memory that the server, or another process, occupies."""
        pages = int(Path(f"/proc/{pid or self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def descriptors(self) -> int:
        """Open files and sockets of all its processes."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)

    async def metrics(self) -> dict[str, float]:
        """Its metrics, summed over all labels but the status."""
        connection = await Connection.open(self.port)
        reply = await connection.ask("/metrics", key=self._admin)
        connection.leave()
        found: dict[str, float] = {}
        for name, labels, value in _SAMPLE.findall(reply.body.decode()):
            status = re.search(r'\bstatus="(\w+)"', labels)
            full = f"{name} {status[1]}" if status else name
            found[full] = found.get(full, 0.0) + float(value)
        return found

    async def outcomes(self) -> dict[str, float]:
        """How the requests ended that an engine had accepted: their number by outcome."""
        metrics = await self.metrics()
        kinds = ("ok", "failed", "aborted", "expired")
        return {kind: metrics.get(f"jarvis_requests_total {kind}", 0.0) for kind in kinds}

    async def in_flight(self, within: float) -> float:
        """Requests being answered, once there are none or after so many seconds."""
        deadline = monotonic() + within
        while True:
            metrics = await self.metrics()
            left = sum(metrics[name] for name in IN_FLIGHT)
            if not left or monotonic() > deadline:
                return left
            await asyncio.sleep(0.02)


@asynccontextmanager
async def started(server: Watched, *, key: str = "") -> AsyncIterator[Watched]:
    """Start a server, and end it with the block."""
    await server.start(orjson.loads(chat("hello")), key=key)
    try:
        yield server
    finally:
        server.stop()
