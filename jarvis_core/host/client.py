"""The server's side of an engine host: start it, talk to it, notice its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog
from attrs import frozen

from jarvis_core.errors import EngineDied, EngineError, JarvisError, from_wire
from jarvis_core.host.calls import CallRequest, HostRequest, StreamRequest
from jarvis_core.host.pending import Pending, Result
from jarvis_core.host.protocol import (
    CLOSE_GRACE,
    Frame,
    FrameChannel,
    HostPlan,
    converter,
)
from jarvis_core.host.stream import HostStream
from jarvis_core.log_lines import split_level
from jarvis_core.structs import EngineStats, ModelInfo

_log = structlog.get_logger("jarvis.host")
_SECRETS = ("JARVIS_API_KEY", "JARVIS_ADMIN_API_KEY")
_STDERR_TAIL = 20


@frozen(kw_only=True)
class HostLimits:
    """How long the server is patient with a host.

    Attributes:
        load_timeout: Seconds that loading may take.
        heartbeat_interval: Seconds between two pings.
        heartbeat_stale: Seconds without an answer after which the host counts as unhealthy.
        heartbeat_timeout: Seconds without an answer after which the host is killed.
        log_level: Least level that the host logs.
    """

    load_timeout: float = 1800.0
    heartbeat_interval: float = 1.0
    heartbeat_stale: float = 10.0
    heartbeat_timeout: float = 45.0
    log_level: str = "info"


class Host:
    """One engine host process, from its start to its end.

    Attributes:
        info: The loaded model, once it is ready.
        chat_format: Name of the chat format, once it is ready.
        chat_format_reason: Why it is that one.
        stats: The engine's last known stats.
        held: The requests in flight when it was lost.
    """

    def __init__(
        self,
        plan: HostPlan,
        limits: HostLimits,
        *,
        python: str | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._python = python or sys.executable
        self._on_progress = on_progress
        self._channel = FrameChannel(self._on_frame, self._on_lost)
        self._pending = Pending(self._channel.send)
        self._missed_pings = 0
        self._lost = asyncio.Event()
        self._stderr: deque[str] = deque(maxlen=_STDERR_TAIL)
        self._reader: asyncio.Task[None]
        self._beating: asyncio.Task[None] | None = None
        self._ending: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None
        self._ready: asyncio.Future[None] | None = None
        self._stopping = False
        self.info: ModelInfo | None = None
        self.chat_format: str | None = None
        self.chat_format_reason: str | None = None
        self.stats: EngineStats | None = None
        self.held: tuple[HostRequest, ...] = ()

    # -- life ------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id, which is also its process group's."""
        return None if self._process is None else self._process.pid

    @property
    def healthy(self) -> bool:
        """Whether the host has answered its heartbeat lately."""
        silence = self._missed_pings * self._limits.heartbeat_interval
        return not self.lost and silence <= self._limits.heartbeat_stale

    async def start(self) -> None:
        """Start the process and load the model.

        Raises:
            ConfigError: The engine refuses to load the model; trying again cannot help.
            InsufficientMemory: The same.
            EngineDied: The process ended while it loaded, or took too long.
        """
        # In a task of its own: cancelled half way, it would leave files open and no way to stop.
        spawning = asyncio.create_task(self._spawn())
        try:
            await asyncio.shield(spawning)
            async with asyncio.timeout(self._limits.load_timeout):
                assert self._ready is not None
                await self._ready
        except TimeoutError:
            await self.stop()
            raise EngineDied(
                f"loading {self._plan.source} took longer than {self._limits.load_timeout:g} s"
            ) from None
        except BaseException:
            await asyncio.wait([spawning])
            if self._ready is not None:
                self._ready.cancel()
            await self.stop()
            raise
        self._beating = asyncio.create_task(self._beat())

    async def _spawn(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        ours, theirs = socket.socketpair()
        reading, self._lifeline = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._python,
                "-m",
                "jarvis_core.host",
                f"--socket={theirs.fileno()}",
                f"--lifeline={reading}",
                f"--log-level={self._limits.log_level}",
                f"--stale={self._limits.heartbeat_stale}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), reading),
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if k not in _SECRETS},
            )
        except OSError as error:
            ours.close()
            self._cut_lifeline()
            raise EngineDied(f"cannot start {self._python}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(reading)
        await loop.create_connection(lambda: self._channel, sock=ours)
        self._reader = asyncio.create_task(self._read_stderr())
        self._channel.send(["load", converter.unstructure(self._plan)])

    @property
    def lost(self) -> bool:
        """Whether the process is gone, or no longer to be reached."""
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """Wait until the process is gone."""
        await self._lost.wait()

    async def stop(self) -> None:
        """End the process: politely, then with SIGKILL."""
        if self._process is None or self._ending is not None:
            return
        self._stopping = True
        self._channel.send(["shutdown"])
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE + 1):
                await self._lost.wait()
        await self.reap()

    async def reap(self) -> str:
        """End what is left of the process group, and say how the process ended."""
        assert self._process is not None
        if self._ending is not None:
            return self._ending
        self._channel.close()
        self._cut_lifeline()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0 if self._stopping else 0.2):
                await self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ending = _ending(await self._process.wait())
        with suppress(TimeoutError):  # what it wrote last is still in the pipe
            await asyncio.wait_for(self._reader, 1.0)
        if self._beating is not None:
            self._beating.cancel()
        return self._ending

    def _cut_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def kill(self) -> None:
        """End the process group now."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that the process wrote to stderr."""
        return tuple(self._stderr)

    async def _beat(self) -> None:
        limits = self._limits
        was_healthy = True
        while not self.lost:
            self._missed_pings += 1
            self._channel.send(["ping"])
            await asyncio.sleep(limits.heartbeat_interval)
            if was_healthy and not self.healthy and not self.lost:
                _log.warning(
                    "engine host does not answer: its event loop is blocked; its stacks are beside",
                    model=self._plan.name,
                    pid=self.pid,
                    seconds=limits.heartbeat_stale,
                )
            was_healthy = self.healthy
            # Pings are counted, not seconds: a server that was itself suspended must not
            # take its own pause for the host's.
            if self._missed_pings * limits.heartbeat_interval > limits.heartbeat_timeout:
                _log.error(
                    "engine host does not answer and is killed",
                    model=self._plan.name,
                    pid=self.pid,
                    seconds=limits.heartbeat_timeout,
                )
                self.kill()
                return

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line longer than the reader's limit was dropped
                continue
            if not line:
                return
            level, text = split_level(line.decode(errors="replace").rstrip())
            self._stderr.append(text)
            getattr(_log, level)(text, model=self._plan.name)

    # -- requests --------------------------------------------------------------------------

    async def stream(
        self, request: StreamRequest, request_id: str, *, places: int | None = None
    ) -> HostStream:
        """Send a request whose answer streams; returns when the engine has accepted it.

        Args:
            request: The request.
            request_id: For logs.
            places: Sequences that may be computed at the same time; None is all.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        if self.lost:
            raise self._died()
        return await self._pending.stream(request, request_id, places=places)

    async def call(self, request: CallRequest, result: type[Result], request_id: str) -> Result:
        """Send a request and wait for its one result; cancelling it ends its work.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        if self.lost:
            raise self._died()
        return await self._pending.call(request, result, request_id)

    def cut(self, make_error: Callable[[], JarvisError]) -> None:
        """Fail everything that is not answered, and end its work."""
        self._pending.cut(make_error)

    def _on_frame(self, frame: Frame) -> None:
        if self._pending.on_frame(frame):
            return
        match frame:
            case ["pong", stats]:
                self._missed_pings = 0
                self.stats = stats and converter.structure(stats, EngineStats)
            case ["progress", done, total]:
                self._on_progress(done, total)
            case ["ready", info, chat_format, reason]:
                self.info = converter.structure(info, ModelInfo)
                self.chat_format, self.chat_format_reason = chat_format, reason
                self._settle(None)
            case ["failed", error]:
                self._settle(from_wire(error))
            case _:
                raise EngineError(f"unknown frame {frame[:1]} from the engine host")

    def _settle(self, error: JarvisError | None) -> None:
        if self._ready is None or self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)

    def _on_lost(self) -> None:
        self._lost.set()
        self._settle(
            EngineDied(f"the engine host of model {self._plan.name!r} ended while loading")
        )
        self.held = self._pending.lost(self._died)

    def _died(self) -> EngineDied:
        return EngineDied(
            f"the engine host of model {self._plan.name!r} ended while it held this request; "
            "it is being restarted",
            retry_after=2.0,
        )


def _ending(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"
