"""Keeps the engine host of a model alive: starts one, waits for its end, and starts the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from attrs import evolve

from jarvis_core.errors import ConfigError, EngineDied, JarvisError
from jarvis_core.host.client import Host
from jarvis_core.host.environment import check_environment
from jarvis_core.models.plan import host_limits, host_plan
from jarvis_core.models.restarts import Restarts
from jarvis_core.models.sampling import SamplingDefaults
from jarvis_core.models.standing import Standing
from jarvis_core.models.status import ModelState
from jarvis_core.models.suspects import Suspects
from jarvis_core.settings import ModelConfig, ServerSettings

_log = structlog.get_logger("jarvis.models")


class Supervisor:
    """Owns the host of a model while there is one, and replaces it.

    Args:
        config: The model's configuration.
        settings: The server's.
        standing: How the model stands; it changes with what happens to the host.
        suspects: Told what a host held when it died.
        changing: Whether something is being done to the model by order, which enters the state
            that follows.

    Attributes:
        host: The host, once it is ready.
        restarts: How long the pauses between hosts are.
        progress: Bytes downloaded and to download, while a host downloads.
        load_seconds: Seconds that the last host took to be ready.
        sampling: What counts where requests do not say.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: ServerSettings,
        *,
        standing: Standing,
        suspects: Suspects,
        changing: Callable[[], bool],
    ) -> None:
        self._config = config
        self._settings = settings
        self._standing = standing
        self._suspects = suspects
        self._changing = changing
        self._task: asyncio.Task[None] | None = None
        self.host: Host | None = None
        self.restarts = Restarts(settings.restart_backoff)
        self.progress: tuple[int, int] | None = None
        self.load_seconds: float | None = None
        self.sampling = SamplingDefaults()

    @property
    def begun(self) -> bool:
        """Whether it was begun since it was last ended, though it may have given up."""
        return self._task is not None

    @property
    def running(self) -> bool:
        """Whether there is a host, or will be."""
        return self._task is not None and not self._task.done()

    @property
    def just_lost(self) -> bool:
        """Whether the host is gone, and this has yet to notice."""
        ready = self._standing.state is ModelState.READY
        return ready and (self.host is None or self.host.lost)

    def begin(self) -> None:
        """Keep a host alive from here on."""
        self.restarts = Restarts(self._settings.restart_backoff)
        self._task = asyncio.create_task(self._supervise())

    async def end(self) -> None:
        """End the host, and start no other."""
        task = self._task
        if task is None:
            return
        if not task.cancelling():  # once: it must not be kept from ending the process
            task.cancel()
        await asyncio.wait([task])
        if self._task is task:
            self._task = None

    async def _supervise(self) -> None:
        """Keep a host alive until it cannot be loaded, or until this task is cancelled."""
        restarts = self.restarts
        while True:
            try:
                restarts.died(await self._live_once())
                if self._standing.state is ModelState.UNLOADING:
                    if not self._changing():
                        self._standing.enter(ModelState.COLD)
                    return
            except EngineDied as error:
                restarts.died(None)
                self._standing.error = error
                if restarts.failed_starts >= self._settings.restart_attempts:
                    times = f"{restarts.failed_starts} times in a row"
                    self._standing.fail(error.with_message(f"{error.message} ({times})"))
                    return
            except JarvisError as error:
                self._standing.fail(error)
                return
            except Exception:
                _log.exception("model cannot be loaded", model=self._config.name)
                self._standing.fail(
                    ConfigError("internal error while loading; the log has the traceback")
                )
                return
            await self._pause()

    async def _pause(self) -> None:
        """Wait until the next host is to be started, and say so meanwhile."""
        seconds, times, error = self.restarts.pause, self.restarts.in_a_row, self._standing.error
        if times > 1 and error is not None:
            self._standing.error = error.with_message(
                f"{error.message}; that was {times} times in a row, and it is started again after "
                f"a pause of {seconds:g} s"
            )
            _log.warning(
                "engine hosts die one after the other",
                model=self._config.name,
                times=times,
                pause=seconds,
            )
        await self.restarts.wait()

    async def _live_once(self) -> float:
        """Start a host and wait for its end; seconds between ready and end.

        Raises:
            EngineDied: It ended while loading.
            JarvisError: The model cannot be loaded.
        """
        began = time.monotonic()
        self.progress = None
        self._standing.tell("loading", message=self._config.source)
        host = Host(
            host_plan(self._config),
            host_limits(self._settings),
            python=self._config.python,
            on_progress=self._on_progress,
        )
        try:
            if self._config.python is not None:
                await check_environment(self._config.python, self._config.engine)
            await host.start()
            self._set_sampling(host)
            ready = time.monotonic()
            self.host, self._standing.error, self.progress = host, None, None
            self.load_seconds = ready - began
            self._standing.enter(ModelState.READY)
            self._standing.tell(
                "ready",
                message=f"chat format {host.chat_format} ({host.chat_format_reason})",
                seconds=self.load_seconds,
            )
            await host.wait_lost()
            self._suspects.host_died(host.held)
            self._host_is_lost()
            ending = await host.reap()
        except EngineDied as error:
            # What it wrote last goes to the log only: it may hold paths and tracebacks.
            _log.error(
                "engine host died while loading",
                model=self._config.name,
                error=error.message,
                last_words=host.last_words[-3:],
            )
            raise
        finally:
            self.host = None
            await host.stop()
        self._standing.error = EngineDied(f"the engine host {ending}")
        _log.error(
            "engine host died",
            model=self._config.name,
            pid=host.pid,
            ending=ending,
            last_words=host.last_words[-3:],
        )
        return time.monotonic() - ready

    def _set_sampling(self, host: Host) -> None:
        """Settle what counts where requests do not say, and let the host's model say so.

        Raises:
            SettingError: The operator asks for what its engine cannot honour.
        """
        assert host.info is not None
        found = SamplingDefaults.of(host.info, self._config.sampling)
        host.info = evolve(host.info, sampling=found.values)
        self.sampling = found
        if found.chosen:
            _log.info("sampling defaults", model=self._config.name, values=found.line or "none")
        if found.unusable:
            _log.warning(
                "the model's files recommend sampling that is left out",
                model=self._config.name,
                values=dict(found.unusable),
            )

    def _host_is_lost(self) -> None:
        """Enter the state that follows from the host's end, which nobody ordered."""
        if (
            self._standing.state is ModelState.ASLEEP
        ):  # its memory is wanted elsewhere: it is not replaced
            self._standing.enter(ModelState.UNLOADING)
        elif self._standing.state is not ModelState.UNLOADING:
            self._standing.wanted = True
            self._standing.enter(ModelState.LOADING)

    def _on_progress(self, done: int, total: int) -> None:
        self.progress = (done, total)
        self._standing.tell(
            "downloading", message=self._config.source, done_bytes=done, total_bytes=total
        )
