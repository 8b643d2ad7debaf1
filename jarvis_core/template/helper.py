"""The engine host's side of the process that renders templates."""

from __future__ import annotations

import json
import marshal
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from jarvis_core.errors import EngineError, ModelUnavailable

TIME_LIMIT = 2.0  # seconds of one rendering
START_LIMIT = 20.0  # seconds until the process is ready
WAIT_LIMIT = 10.0  # seconds that a rendering waits for those before it
REPLY_LIMIT = 128 << 20  # bytes of a reply, above any that the process sends by itself

_SCRIPT = Path(__file__).with_name("process.py")


class RenderError(Exception):
    """A template was not rendered.

    Attributes:
        kind: ``syntax``, ``refused``, ``failed``, ``memory``, ``size`` or ``time``.
        message: What Jinja or the template says.
    """

    def __init__(self, kind: str, message: str = "") -> None:
        """Tell what went wrong."""
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class TemplateHelper:
    """Renders templates in a process of its own, which is started when it is needed.

    A rendering that takes too long ends the process; the next one starts a new one. It may be
    used from several threads, which take turns.
    """

    def __init__(self, *, time_limit: float = TIME_LIMIT) -> None:
        """Start nothing yet."""
        self._time_limit = time_limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._peer: socket.socket | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None while there is no process."""
        return self._process.pid if self._process else None

    def render(self, template: str, variables: dict[str, Any], *, now: str) -> str:
        """The rendered text.

        Args:
            template: Jinja source.
            variables: What it may use; plain JSON values.
            now: The clock, in ISO format, for ``strftime_now``.

        Raises:
            RenderError: The template, or what it was given, is at fault.
            ModelUnavailable: Others have been rendering for too long.
            EngineError: The process cannot be started.
        """
        job = marshal.dumps((template, variables, now))
        if not self._lock.acquire(timeout=WAIT_LIMIT):
            raise ModelUnavailable("too many prompts are being rendered", retry_after=1)
        try:
            reply = self._exchange(job)
        finally:
            self._lock.release()
        if reply[0] == "t":
            return reply[1:]
        kind, _, message = reply[1:].partition("\n")
        raise RenderError(kind, message)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _exchange(self, job: bytes) -> str:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._start()
        assert self._peer is not None
        deadline = time.monotonic() + self._time_limit
        try:
            self._peer.settimeout(self._time_limit)  # of each step; what is left is looked at below
            self._peer.sendall(len(job).to_bytes(4, "big") + job)
            return _receive(self._peer, deadline)
        except TimeoutError:
            self._stop()
            raise RenderError("time", f"it took more than {self._time_limit:g} s") from None
        except (OSError, EOFError, UnicodeDecodeError):
            self._stop()
            raise RenderError("memory", "its process ended") from None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        kept = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps([p for p in sys.path if p])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in kept if name in os.environ},
            )
        self._process, self._peer = process, ours
        self._finalizer = weakref.finalize(self, _end, process, ours)
        try:
            _receive(ours, time.monotonic() + START_LIMIT)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            self._stop()
            raise EngineError("the process that renders chat templates does not start") from error

    def _stop(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._peer = self._finalizer = None


def _end(process: subprocess.Popen[bytes], peer: socket.socket) -> None:
    peer.close()
    process.kill()
    process.wait()


def _receive(peer: socket.socket, deadline: float) -> str:
    """What the process says: a letter, then text."""
    data = _some(peer, deadline)
    while len(data) < 4:
        data += _some(peer, deadline)
    missing = 4 + int.from_bytes(data[:4], "big") - len(data)
    if missing > REPLY_LIMIT:
        raise EOFError
    pieces = [data]
    while missing > 0:
        pieces.append(_some(peer, deadline))
        missing -= len(pieces[-1])
    reply = b"".join(pieces)[4:].decode("utf-8", "surrogatepass")
    if missing < 0 or reply[:1] not in ("r", "t", "e"):
        raise EOFError
    return reply


def _some(peer: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    peer.settimeout(left)
    if piece := peer.recv(1 << 20):
        return piece
    raise EOFError
