"""Servers that are measured: started, asked, their CPU time counted, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, perf_counter
from types import MappingProxyType
from typing import Any

from load import LoadError, ask

_START_LIMIT = 120.0
"""Seconds that a server may take to its first token."""

_END_LIMIT = 20.0
"""Seconds that a server may take to end before it is killed."""


class Server:
    """A server process and its children, on a port of this machine.

    Attributes:
        name: What it is called in tables.
        command: How it is started.
        port: Where it listens.
        load_seconds: Seconds from its start to its first token.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        folder: Path,
        *,
        start_limit: float = _START_LIMIT,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Describe a server.

        Args:
            name: What it is called in tables.
            command: How it is started.
            port: Where that lets it listen.
            folder: Working directory; its log is written there.
            start_limit: Seconds that it may take to its first token.
            environ: Further environment variables.
        """
        self.name = name
        self.command = list(command)
        self.port = port
        self.load_seconds = 0.0
        self._folder = folder
        self._environ = environ
        self._start_limit = start_limit
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self._folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    @property
    def pids(self) -> list[int]:
        """Its process and that one's living children."""
        if self._process is None:
            return []
        parents = _parents()
        return [pid for pid in parents if self._process.pid in _line(pid, parents)]

    async def start(self, body: dict[str, Any], *, key: str = "") -> None:
        """Start it and wait for the first token of an answer to ``body``.

        Args:
            body: The request.
            key: The API key, where one is needed.

        Raises:
            RuntimeError: It ends, or does not answer in time.
        """
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("JARVIS_", "LLAMA_"))}
        environ.update(self._environ)
        log = self.log
        begun = perf_counter()
        with log.open("wb") as out:
            process = self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
                self.command, stdout=out, stderr=out, cwd=self._folder, env=environ
            )
        deadline = monotonic() + self._start_limit
        while monotonic() < deadline and process.poll() is None:
            try:
                await ask(self.port, {**body, "max_tokens": 1}, key=key)
            except (OSError, LoadError):
                await asyncio.sleep(0.02)
                continue
            self.load_seconds = perf_counter() - begun
            return
        self.stop()
        raise RuntimeError(
            f"{self.name} does not answer:\n{log.read_text(errors='replace')[-2000:]}"
        )

    def cpu_seconds(self) -> float:
        """Seconds of CPU time that the process and its living children have taken."""
        if self._process is None:
            return 0.0
        total = 0
        for pid in self.pids:
            with suppress(OSError):  # it has just ended
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _parents() -> dict[int, int]:
    """The parent of every process on this machine."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            stat = (folder / "stat").read_text()
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """A process, its parent, and so on."""
    line = [pid]
    while line[-1] in parents:
        line.append(parents[line[-1]])
    return line


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
