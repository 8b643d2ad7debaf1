"""One configured model: its life, its host, and the requests that hold it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from jarvis_core.errors import ModelUnavailable, RequestError, StateConflict
from jarvis_core.host.calls import (
    Done,
    Operation,
    ResetPrefixCache,
    SleepRequest,
    WakeRequest,
    check_task,
)
from jarvis_core.host.client import Host
from jarvis_core.models.change import Change, GivenUp, Work
from jarvis_core.models.events import ModelEvent
from jarvis_core.models.requests import Requests
from jarvis_core.models.rest import move
from jarvis_core.models.standing import Standing
from jarvis_core.models.status import BECOMING_READY, PASSING, ModelState, ModelStatus
from jarvis_core.models.supervisor import Supervisor
from jarvis_core.models.suspects import Suspects
from jarvis_core.settings import ModelConfig, ServerSettings

_log = structlog.get_logger("jarvis.models")


class Model:
    """A model through all its hosts: loads it, replaces a host that died, lets it sleep, ends it.

    One task, the supervisor, owns the host while there is one, and replaces it. Another, the
    change, does what is ordered: unload, sleep, wake.

    Attributes:
        config: Its configuration.
        standing: Its state, and what went wrong.
        suspects: Requests that may have killed a host of it.
        requests: The requests that hold it.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: ServerSettings,
        announce: Callable[[ModelEvent], None],
    ) -> None:
        self.config = config
        self.standing = Standing(config, announce)
        self.suspects = Suspects()
        self.requests = Requests(config.name, settings.queue_size, self._places)
        self._settings = settings
        self._created = int(time.time())
        self._resting: Host | None = None
        self._change = Change()
        self._supervisor = Supervisor(
            config,
            settings,
            standing=self.standing,
            suspects=self.suspects,
            changing=lambda: self._change.running,
        )

    # -- what others see -------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether it is ready and its host answers the heartbeat."""
        host = self._supervisor.host
        return self.standing.state is ModelState.READY and host is not None and host.healthy

    def status(self) -> ModelStatus:
        """The model now."""
        host, config = self._supervisor.host, self.config
        standing, progress = self.standing, self._supervisor.progress
        named = None if config.chat_format == "auto" else config.chat_format
        return ModelStatus(
            name=config.name,
            aliases=config.aliases,
            source=config.source,
            engine=config.engine,
            chat_format=(host.chat_format if host is not None else None) or named,
            state=standing.state,
            healthy=self.healthy,
            wanted=standing.wanted,
            info=None if host is None else host.info,
            error=None if standing.error is None else standing.error.message,
            created=self._created,
            loaded_bytes=progress[0] if progress else None,
            total_bytes=progress[1] if progress else None,
            stats=None if host is None else host.stats,
            requests=self.requests.held,
            waiting=self.requests.waiting,
            load_seconds=self._supervisor.load_seconds,
            sampling={} if host is None else self._supervisor.sampling.chosen,
            adapters=tuple(config.adapters),
            chat_format_reason=None if host is None else host.chat_format_reason,
        )

    # -- life ------------------------------------------------------------------------------

    def begin_load(self) -> None:
        """Make it ready in the background, by loading or waking; nothing happens if it is.

        Where a host that keeps dying is replaced after a pause, it is replaced now.
        """
        self.standing.wanted = True
        if self.standing.state is ModelState.ASLEEP and self._supervisor.host is not None:
            self.standing.enter(ModelState.WAKING)
            self._change.begin(self._wake(self._supervisor.host))
        elif not self._supervisor.running:
            self.standing.enter(ModelState.LOADING)
            self._supervisor.begin()
        else:
            self._supervisor.restarts.hasten()

    def begin_wake(self) -> None:
        """Wake it in the background; nothing happens if it is awake.

        Raises:
            UnsupportedParameter: Its engine cannot sleep.
            StateConflict: It is not loaded.
        """
        if self._supervisor.host is not None and self._supervisor.host.info is not None:
            check_task(WakeRequest(), self._supervisor.host.info)
        if self.standing.state not in (ModelState.ASLEEP, ModelState.WAKING, ModelState.READY):
            raise self.standing.conflict(
                "only a sleeping model can be woken; load makes any model ready"
            )
        self.begin_load()

    async def settled(self) -> None:
        """Wait until it is in no state that ends by itself."""
        while self.standing.state in PASSING:
            await self.standing.changed()

    async def unload(self, drain: float) -> None:
        """Let running requests end for ``drain`` seconds, then end the host.

        Raises:
            StateConflict: It is already being unloaded.
        """
        if self.standing.state is ModelState.UNLOADING:
            raise StateConflict(f"model {self.config.name!r} is already being unloaded")
        self.standing.wanted = False
        if not self._supervisor.begun:
            self.standing.enter(ModelState.COLD)
            return
        self.standing.enter(ModelState.UNLOADING)
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
        self.standing.wanted = False
        self.standing.enter(ModelState.FALLING_ASLEEP)
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
        await self._supervisor.end()

    async def _make(self, work: Work) -> None:
        """Change its state, to the end even if who asked for it leaves."""
        try:
            await self._change.make(work)
        except GivenUp:
            raise self.standing.conflict("what was begun was given up for that") from None

    async def _unload(self, drain: float) -> None:
        if self._supervisor.host is not None:
            await self.requests.drained(drain)
        await self._supervisor.end()
        self.standing.enter(ModelState.COLD)
        _log.info("model unloaded", model=self.config.name)

    async def _fall_asleep(self, host: Host, request: SleepRequest, drain: float) -> None:
        name = self.config.name
        await self.requests.drained(drain)
        self._resting = host
        host.cut(lambda: ModelUnavailable(f"model {name!r} was put to sleep", retry_after=2.0))
        try:
            await move(host, request, model=name, patience=self._settings.load_timeout)
        except RequestError:
            self._resting, self.standing.wanted = None, True
            self.standing.enter(ModelState.READY)
            raise
        self.standing.enter(ModelState.ASLEEP)
        _log.info("model asleep", model=name, level=request.level)

    async def _wake(self, host: Host) -> None:
        name, began = self.config.name, time.monotonic()
        await move(host, WakeRequest(), model=name, patience=self._settings.load_timeout)
        self._resting = None
        self.standing.enter(ModelState.READY)
        _log.info("model awake", model=name, seconds=round(time.monotonic() - began, 3))

    def _ready_host(self, request: Operation, why: str) -> Host:
        """The host of a ready model that can do what is asked.

        Raises:
            UnsupportedParameter: Its engine cannot.
            StateConflict: It is not ready.
        """
        host = self._supervisor.host
        if host is None or host.info is None:
            raise self.standing.conflict(why)
        check_task(request, host.info)
        if self.standing.state is not ModelState.READY:
            raise self.standing.conflict(why)
        return host

    # -- requests --------------------------------------------------------------------------

    async def loaded(self) -> None:
        """Wait until it is ready; loads it if it is cold, wakes it if it is asleep.

        Raises:
            ModelUnavailable: It is not ready yet, or ceases to be, or does not answer.
            JarvisError: It failed to load.
        """
        if self.standing.state in (ModelState.COLD, ModelState.ASLEEP):
            self.begin_load()
        name, restarts = self.config.name, self._supervisor.restarts
        if restarts.left <= self._settings.load_wait:  # else it cannot be ready by then
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.load_wait):
                    while self.standing.state in BECOMING_READY or self._supervisor.just_lost:
                        await self.standing.changed()
        if self.standing.state is ModelState.FAILED and self.standing.error is not None:
            raise self.standing.error.with_message(
                f"model {name!r} failed to load: {self.standing.error.message}"
            )
        if self.standing.state is not ModelState.READY:
            why = "" if self.standing.error is None else f": {self.standing.error.message}"
            raise ModelUnavailable(
                f"model {name!r} is {self.standing.state.words}{why}",
                retry_after=max(5.0, restarts.left),
            )
        if not self.healthy:
            raise ModelUnavailable(f"model {name!r} does not answer", retry_after=5.0)

    def _places(self) -> int:
        """Requests that the engine is sent at the same time, 0 where that is not known."""
        info = None if self._supervisor.host is None else self._supervisor.host.info
        if info is None:
            return 0
        # A step of a model that does not generate answers all that it computes: as much again
        # must be there for the next one.
        steps = 1 if "generate" in info.capabilities.tasks else 2
        return steps * info.max_num_seqs

    @property
    def host(self) -> Host:
        """The host of a ready model.

        Raises:
            ModelUnavailable: It died a moment ago, or sleeps.
        """
        if self._supervisor.host is None or self._supervisor.host is self._resting:
            raise ModelUnavailable(
                f"model {self.config.name!r} is {self.standing.state.words}", retry_after=2.0
            )
        return self._supervisor.host
