"""One configured model: its life, its host, and the requests that hold it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from attrs import evolve

from jarvis_core.errors import (
    ConfigError,
    EngineDied,
    JarvisError,
    ModelUnavailable,
    RequestError,
    StateConflict,
)
from jarvis_core.host.calls import (
    Done,
    Operation,
    ResetPrefixCache,
    SleepRequest,
    WakeRequest,
    check_task,
)
from jarvis_core.host.client import Host
from jarvis_core.host.environment import check_environment
from jarvis_core.models.change import Change, GivenUp, Work
from jarvis_core.models.events import EventKind, ModelEvent
from jarvis_core.models.plan import host_limits, host_plan
from jarvis_core.models.requests import Requests
from jarvis_core.models.rest import move
from jarvis_core.models.restarts import Restarts
from jarvis_core.models.sampling import SamplingDefaults
from jarvis_core.models.status import BECOMING_READY, PASSING, ModelState, ModelStatus
from jarvis_core.models.suspects import Suspects
from jarvis_core.settings import ModelConfig, ServerSettings

_log = structlog.get_logger("jarvis.models")


class Model:
    """A model through all its hosts: loads it, replaces a host that died, lets it sleep, ends it.

    One task, the supervisor, owns the host while there is one, and replaces it. Another, the
    change, does what is ordered: unload, sleep, wake.
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
        self.suspects = Suspects()
        self.requests = Requests(config.name, settings.queue_size, self._places)
        self._settings = settings
        self._announce = announce
        self._created = int(time.time())
        self._host: Host | None = None
        self._resting: Host | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = Restarts(settings.restart_backoff)
        self._change = Change()
        self._changed = asyncio.Event()
        self._progress: tuple[int, int] | None = None
        self._load_seconds: float | None = None
        self._sampling = SamplingDefaults()

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
            sampling={} if host is None else self._sampling.chosen,
            adapters=tuple(config.adapters),
            chat_format_reason=None if host is None else host.chat_format_reason,
        )

    # -- life ------------------------------------------------------------------------------

    def begin_load(self) -> None:
        """Make it ready in the background, by loading or waking; nothing happens if it is.

        Where a host that keeps dying is replaced after a pause, it is replaced now.
        """
        self.wanted = True
        if self.state is ModelState.ASLEEP and self._host is not None:
            self._enter(ModelState.WAKING)
            self._change.begin(self._wake(self._host))
        elif self._supervisor is None or self._supervisor.done():
            self._enter(ModelState.LOADING)
            self._restarts = Restarts(self._settings.restart_backoff)
            self._supervisor = asyncio.create_task(self._supervise())
        else:
            self._restarts.hasten()

    def begin_wake(self) -> None:
        """Wake it in the background; nothing happens if it is awake.

        Raises:
            UnsupportedParameter: Its engine cannot sleep.
            StateConflict: It is not loaded.
        """
        if self._host is not None and self._host.info is not None:
            check_task(WakeRequest(), self._host.info)
        if self.state not in (ModelState.ASLEEP, ModelState.WAKING, ModelState.READY):
            raise self._conflict("only a sleeping model can be woken; load makes any model ready")
        self.begin_load()

    async def settled(self) -> None:
        """Wait until it is in no state that ends by itself."""
        while self.state in PASSING:
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
        await self._make(self._unload(drain))

    async def sleep(self, level: int, drain: float) -> None:
        """Let running requests end for ``drain`` seconds, then let the engine give memory back.

        Raises:
            StateConflict: It is not ready, or was unloaded meanwhile.
            RequestError: Its engine cannot sleep, or not so.
            EngineError: Its engine failed, and the host is replaced.
        """
        request = SleepRequest(level=level)
        host = self._ready_host(request, "only a ready model can be put to sleep")
        self.wanted = False
        self._enter(ModelState.FALLING_ASLEEP)
        await self._make(self._fall_asleep(host, request, drain))

    async def reset_prefix_cache(self, request_id: str) -> None:
        """Let the engine forget every cached prefix.

        Raises:
            StateConflict: It is not ready.
            RequestError: Its engine cannot do that.
            EngineError: Its engine failed.
        """
        request = ResetPrefixCache()
        host = self._ready_host(request, "only a ready model has a prefix cache")
        await host.call(request, Done, request_id)

    async def aclose(self) -> None:
        """End the host and its supervisor now."""
        self._change.give_up()
        await self._end_host()

    async def _make(self, work: Work) -> None:
        """Change its state, to the end even if who asked for it leaves."""
        try:
            await self._change.make(work)
        except GivenUp:
            raise self._conflict("what was begun was given up for that") from None

    async def _unload(self, drain: float) -> None:
        if self._host is not None:
            await self.requests.drained(drain)
        await self._end_host()
        self._enter(ModelState.COLD)

    async def _fall_asleep(self, host: Host, request: SleepRequest, drain: float) -> None:
        name = self.config.name
        await self.requests.drained(drain)
        self._resting = host
        host.cut(lambda: ModelUnavailable(f"model {name!r} was put to sleep", retry_after=2.0))
        try:
            await move(host, request, model=name, patience=self._settings.load_timeout)
        except RequestError:
            self._resting, self.wanted = None, True
            self._enter(ModelState.READY)
            raise
        self._enter(ModelState.ASLEEP)
        _log.info("model asleep", model=name, level=request.level)

    async def _wake(self, host: Host) -> None:
        name, began = self.config.name, time.monotonic()
        await move(host, WakeRequest(), model=name, patience=self._settings.load_timeout)
        self._resting = None
        self._enter(ModelState.READY)
        _log.info("model awake", model=name, seconds=round(time.monotonic() - began, 3))

    def _ready_host(self, request: Operation, why: str) -> Host:
        """The host of a ready model that can do what is asked.

        Raises:
            UnsupportedParameter: Its engine cannot.
            StateConflict: It is not ready.
        """
        host = self._host
        if host is None or host.info is None:
            raise self._conflict(why)
        check_task(request, host.info)
        if self.state is not ModelState.READY:
            raise self._conflict(why)
        return host

    def _conflict(self, why: str) -> StateConflict:
        return StateConflict(f"model {self.config.name!r} is {self.state.words}: {why}")

    async def _end_host(self) -> None:
        supervisor = self._supervisor
        if supervisor is None:
            return
        if not supervisor.cancelling():  # once: it must not be kept from ending the process
            supervisor.cancel()
        await asyncio.wait([supervisor])
        if self._supervisor is supervisor:
            self._supervisor = None

    async def _supervise(self) -> None:
        """Keep a host alive until it cannot be loaded, or until this task is cancelled."""
        restarts = self._restarts
        while True:
            try:
                restarts.died(await self._live_once())
                if self.state is ModelState.UNLOADING:
                    if not self._change.running:
                        self._enter(ModelState.COLD)
                    return
            except EngineDied as error:
                restarts.died(None)
                self.error = error
                if restarts.failed_starts >= self._settings.restart_attempts:
                    times = f"{restarts.failed_starts} times in a row"
                    self._fail(error.with_message(f"{error.message} ({times})"))
                    return
            except JarvisError as error:
                self._fail(error)
                return
            except Exception:
                _log.exception("model cannot be loaded", model=self.config.name)
                self._fail(ConfigError("internal error while loading; the log has the traceback"))
                return
            await self._pause()

    async def _pause(self) -> None:
        """Wait until the next host is to be started, and say so meanwhile."""
        seconds, times = self._restarts.pause, self._restarts.in_a_row
        if times > 1 and self.error is not None:
            self.error = self.error.with_message(
                f"{self.error.message}; that was {times} times in a row, and it is started again "
                f"after a pause of {seconds:g} s"
            )
            _log.warning(
                "engine hosts die one after the other",
                model=self.config.name,
                times=times,
                pause=seconds,
            )
        await self._restarts.wait()

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
            host_plan(self.config),
            host_limits(self._settings),
            python=self.config.python,
            on_progress=self._on_progress,
        )
        try:
            if self.config.python is not None:
                await check_environment(self.config.python, self.config.engine)
            await host.start()
            self._set_sampling(host)
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
            self._host_is_lost()
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

    def _set_sampling(self, host: Host) -> None:
        """Settle what counts where requests do not say, and let the host's model say so.

        Raises:
            SettingError: The operator asks for what its engine cannot honour.
        """
        assert host.info is not None
        found = SamplingDefaults.of(host.info, self.config.sampling)
        host.info = evolve(host.info, sampling=found.values)
        self._sampling = found
        if found.chosen:
            _log.info("sampling defaults", model=self.config.name, values=found.line or "none")
        if found.unusable:
            _log.warning(
                "the model's files recommend sampling that is left out",
                model=self.config.name,
                values=dict(found.unusable),
            )

    def _host_is_lost(self) -> None:
        """Enter the state that follows from the host's end, which nobody ordered."""
        if self.state is ModelState.ASLEEP:  # its memory is wanted elsewhere: it is not replaced
            self._enter(ModelState.UNLOADING)
        elif self.state is not ModelState.UNLOADING:
            self.wanted = True
            self._enter(ModelState.LOADING)

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
        """Wait until it is ready; loads it if it is cold, wakes it if it is asleep.

        Raises:
            ModelUnavailable: It is not ready yet, or ceases to be, or does not answer.
            JarvisError: It failed to load.
        """
        if self.state in (ModelState.COLD, ModelState.ASLEEP):
            self.begin_load()
        name, restarts = self.config.name, self._restarts
        if restarts.left <= self._settings.load_wait:  # else it cannot be ready by then
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.load_wait):
                    while self.state in BECOMING_READY or self._just_lost:
                        await self._changed.wait()
        if self.state is ModelState.FAILED and self.error is not None:
            raise self.error.with_message(f"model {name!r} failed to load: {self.error.message}")
        if self.state is not ModelState.READY:
            why = "" if self.error is None else f": {self.error.message}"
            raise ModelUnavailable(
                f"model {name!r} is {self.state.words}{why}", retry_after=max(5.0, restarts.left)
            )
        if not self.healthy:
            raise ModelUnavailable(f"model {name!r} does not answer", retry_after=5.0)

    def _places(self) -> int:
        """Requests that the engine is sent at the same time, 0 where that is not known."""
        info = None if self._host is None else self._host.info
        if info is None:
            return 0
        # A step of a model that does not generate answers all that it computes: as much again
        # must be there for the next one.
        steps = 1 if "generate" in info.capabilities.tasks else 2
        return steps * info.max_num_seqs

    @property
    def _just_lost(self) -> bool:
        """Whether the host is gone and the supervisor has yet to notice."""
        return self.state is ModelState.READY and (self._host is None or self._host.lost)

    @property
    def host(self) -> Host:
        """The host of a ready model.

        Raises:
            ModelUnavailable: It died a moment ago, or sleeps.
        """
        if self._host is None or self._host is self._resting:
            raise ModelUnavailable(
                f"model {self.config.name!r} is {self.state.words}", retry_after=2.0
            )
        return self._host
