"""A look into a server's process from inside: its event loop's lag, its tasks, its CPU time."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import TextIO

INTERVAL = 0.002
"""Seconds between two looks at the event loop."""


class Probe:
    """Watches the event loop that it runs on; writes what it saw at SIGUSR1, and starts anew.

    Args:
        out: Where to write; standard output by default.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._lags: list[float] = []

    def start(self) -> None:
        """Watch the running loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._write)
        self._due = loop.time() + INTERVAL
        loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._lags.append(max(0.0, now - self._due))
        self._due = now + INTERVAL
        loop.call_later(INTERVAL, self._look)

    def _write(self) -> None:
        lags, self._lags = sorted(self._lags), []
        seen = {
            "cpu": time.process_time(),
            "p999": lags[int(len(lags) * 0.999)] if lags else 0.0,
            "max": lags[-1] if lags else 0.0,
            "tasks": len(asyncio.all_tasks()),
        }
        print(json.dumps(seen), file=self._out, flush=True)
