"""One configured model: its life, its host, and the requests that hold it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from jarvis_core.errors import (
    ConfigError,
    EngineDied,
    JarvisError,
    ModelUnavailable,
    StateConflict,
)
from jarvis_core.host.client import Host, HostLimits
from jarvis_core.host.environment import check_environment
from jarvis_core.host.protocol import HostPlan
from jarvis_core.models.events import EventKind, ModelEvent
from jarvis_core.models.requests import Requests
from jarvis_core.models.status import ModelState, ModelStatus
from jarvis_core.models.suspects import Suspects
from jarvis_core.settings import ModelConfig, ServerSettings

STEADY = 10.0
"""Seconds after which a host that died is replaced at once: it was not a crash at start."""

_log = structlog.get_logger("jarvis.models")


class Model:
    """A model through all its hosts: loads it, replaces a host that died, ends it.

    One task, the supervisor, owns the host and the state while the model is loaded or loading.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: ServerSettings,
        announce: Callable[[ModelEvent], None],
    ) -> None:
        self.config = config
        self.state = ModelState.COLD
        self.wanted = config.preload
        self.error: JarvisError | None = None
        self._settings = settings
        self._announce = announce
        self._created = int(time.time())
        self._host: Host | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._progress: tuple[int, int] | None = None
        self._load_seconds: float | None = None
        self.suspects = Suspects()
        self.requests = Requests(config.name, settings.queue_size, self._places)

    # -- what others see -------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether it is ready and its host answers the heartbeat."""
        return self.state is ModelState.READY and self._host is not None and self._host.healthy

    def status(self) -> ModelStatus:
        """The model now."""
        host, config = self._host, self.config
        named = None if config.chat_format == "auto" else config.chat_format
        return ModelStatus(
            name=config.name,
            aliases=config.aliases,
            source=config.source,
            engine=config.engine,
            chat_format=(host.chat_format if host is not None else None) or named,
            state=self.state,
            healthy=self.healthy,
            wanted=self.wanted,
            info=None if host is None else host.info,
            error=None if self.error is None else self.error.message,
            created=self._created,
            loaded_bytes=self._progress[0] if self._progress else None,
            total_bytes=self._progress[1] if self._progress else None,
            stats=None if host is None else host.stats,
            requests=self.requests.held,
            waiting=self.requests.waiting,
            load_seconds=self._load_seconds,
            adapters=tuple(config.adapters),
            chat_format_reason=None if host is None else host.chat_format_reason,
        )

    # -- life ------------------------------------------------------------------------------

    def begin_load(self) -> None:
        """Load in the background; nothing happens if it is loaded or loading."""
        self.wanted = True
        if self._supervisor is None or self._supervisor.done():
            self._enter(ModelState.LOADING)
            self._supervisor = asyncio.create_task(self._supervise())

    async def settled(self) -> None:
        """Wait until it is neither loading nor unloading."""
        while self.state in (ModelState.LOADING, ModelState.UNLOADING):
            await self._changed.wait()

    async def unload(self, drain: float) -> None:
        """Let running requests end for ``drain`` seconds, then end the host.

        Raises:
            StateConflict: It is already being unloaded.
        """
        if self.state is ModelState.UNLOADING:
            raise StateConflict(f"model {self.config.name!r} is already being unloaded")
        self.wanted = False
        if self._supervisor is None:
            self._enter(ModelState.COLD)
            return
        self._enter(ModelState.UNLOADING)
        await self.requests.drained(drain)
        await self.aclose()
        self._enter(ModelState.COLD)

    async def aclose(self) -> None:
        """End the host and its supervisor now."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor

    async def _supervise(self) -> None:
        """Keep a host alive until it cannot be loaded, or until this task is cancelled."""
        failures = 0
        while True:
            lived = 0.0
            try:
                lived = await self._live_once()
                failures = 0
            except EngineDied as error:
                failures += 1
                self.error = error
                if failures >= self._settings.restart_attempts:
                    self._fail(error.with_message(f"{error.message} ({failures} times in a row)"))
                    return
            except JarvisError as error:
                self._fail(error)
                return
            except Exception:
                _log.exception("model cannot be loaded", model=self.config.name)
                self._fail(ConfigError("internal error while loading; the log has the traceback"))
                return
            if lived < STEADY:
                await asyncio.sleep(self._settings.restart_backoff * 2 ** max(failures - 1, 0))

    async def _live_once(self) -> float:
        """Start a host and wait for its end; seconds between ready and end.

        Raises:
            EngineDied: It ended while loading.
            JarvisError: The model cannot be loaded.
        """
        began = time.monotonic()
        self._progress = None
        self._tell("loading", message=self.config.source)
        host = Host(
            self._plan(), self._limits(), python=self.config.python, on_progress=self._on_progress
        )
        try:
            if self.config.python is not None:
                await check_environment(self.config.python, self.config.engine)
            await host.start()
            ready = time.monotonic()
            self._host, self.error, self._progress = host, None, None
            self._load_seconds = ready - began
            self._enter(ModelState.READY)
            self._tell(
                "ready",
                message=f"chat format {host.chat_format} ({host.chat_format_reason})",
                seconds=self._load_seconds,
            )
            await host.wait_lost()
            self.suspects.host_died(host.held)
            if self.state is ModelState.READY:
                self._enter(ModelState.LOADING)
            ending = await host.reap()
        except EngineDied as error:
            # What it wrote last goes to the log only: it may hold paths and tracebacks.
            _log.error(
                "engine host died while loading",
                model=self.config.name,
                error=error.message,
                last_words=host.last_words[-3:],
            )
            raise
        finally:
            self._host = None
            await host.stop()
        self.error = EngineDied(f"the engine host {ending}")
        _log.error(
            "engine host died",
            model=self.config.name,
            pid=host.pid,
            ending=ending,
            last_words=host.last_words[-3:],
        )
        return time.monotonic() - ready

    def _plan(self) -> HostPlan:
        config = self.config
        return HostPlan(
            name=config.name,
            source=config.source,
            engine=config.engine,
            chat_format=config.chat_format,
            chat_template=config.chat_template,
            context_length=config.context_length,
            adapters=dict(config.adapters),
            settings=dict(config.settings),
        )

    def _limits(self) -> HostLimits:
        settings = self._settings
        return HostLimits(
            load_timeout=settings.load_timeout,
            heartbeat_interval=settings.heartbeat_interval,
            heartbeat_stale=settings.heartbeat_stale,
            heartbeat_timeout=settings.heartbeat_timeout,
            log_level="debug" if settings.debug else settings.log_level,
        )

    def _on_progress(self, done: int, total: int) -> None:
        self._progress = (done, total)
        self._tell("downloading", message=self.config.source, done_bytes=done, total_bytes=total)

    def _fail(self, error: JarvisError) -> None:
        self.error = error
        self._enter(ModelState.FAILED)
        self._tell("failed", message=error.message)

    def _enter(self, state: ModelState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def _tell(
        self,
        kind: EventKind,
        *,
        message: str,
        seconds: float | None = None,
        done_bytes: int | None = None,
        total_bytes: int | None = None,
    ) -> None:
        self._announce(
            ModelEvent(
                kind=kind,
                model=self.config.name,
                engine=self.config.engine,
                message=message,
                seconds=seconds,
                done_bytes=done_bytes,
                total_bytes=total_bytes,
            )
        )

    # -- requests --------------------------------------------------------------------------

    async def loaded(self) -> None:
        """Wait until it is ready; loads it if it is cold.

        Raises:
            ModelUnavailable: It is still loading, unloading, or does not answer.
            JarvisError: It failed to load.
        """
        if self.state is ModelState.COLD:
            self.begin_load()
        name = self.config.name
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.load_wait):
                while self.state is ModelState.LOADING or self._just_lost:
                    await self._changed.wait()
        if self.state is ModelState.FAILED and self.error is not None:
            raise self.error.with_message(f"model {name!r} failed to load: {self.error.message}")
        if self.state is not ModelState.READY:
            raise ModelUnavailable(f"model {name!r} is {self.state.value}", retry_after=5.0)
        if not self.healthy:
            raise ModelUnavailable(f"model {name!r} does not answer", retry_after=5.0)

    def _places(self) -> int:
        """Sequences that the engine computes at the same time, 0 where that is not known."""
        info = None if self._host is None else self._host.info
        return 0 if info is None else info.max_num_seqs

    @property
    def _just_lost(self) -> bool:
        """Whether the host is gone and the supervisor has yet to notice."""
        return self.state is ModelState.READY and (self._host is None or self._host.lost)

    @property
    def host(self) -> Host:
        """The host of a ready model.

        Raises:
            ModelUnavailable: It died a moment ago.
        """
        if self._host is None:
            raise ModelUnavailable(
                f"model {self.config.name!r} is {self.state.value}", retry_after=2.0
            )
        return self._host
