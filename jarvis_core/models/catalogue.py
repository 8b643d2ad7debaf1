"""All configured models, by name, alias and adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from jarvis_core.errors import ModelNotFound
from jarvis_core.models.events import ModelEvent
from jarvis_core.models.lease import Lease
from jarvis_core.models.model import Model
from jarvis_core.models.status import ModelState, ModelStatus
from jarvis_core.models.turns import NOBODY, Claim
from jarvis_core.settings import ModelConfig, ServerSettings


class Catalogue:
    """Finds models, loads and unloads them, and leases them to requests.

    Args:
        configs: The configured models by name.
        settings: The server's settings.
        announce: Told what happens to models.
    """

    def __init__(
        self,
        configs: Mapping[str, ModelConfig],
        settings: ServerSettings,
        announce: Callable[[ModelEvent], None] = lambda event: None,
    ) -> None:
        self._settings = settings
        self._models = {name: Model(config, settings, announce) for name, config in configs.items()}
        self._names = dict(self._models)
        for model in self._models.values():
            for alias in (*model.config.aliases, model.config.source):
                self._names.setdefault(alias, model)
        self._adapters = {
            adapter: model
            for model in self._models.values()
            for adapter in model.config.adapters
            if adapter not in self._names
        }

    async def start(self) -> None:
        """Begin to load every model that is to be preloaded; returns at once."""
        for model in self._models.values():
            if model.config.preload:
                model.begin_load()

    async def aclose(self) -> None:
        """End every host."""
        await asyncio.gather(*(model.aclose() for model in self._models.values()))

    async def settled(self) -> None:
        """Wait until no model is in a state that ends by itself."""
        await asyncio.gather(*(model.settled() for model in self._models.values()))

    def statuses(self) -> list[ModelStatus]:
        """Every model now, in the order of the configuration."""
        return [model.status() for model in self._models.values()]

    def status(self, name: str) -> ModelStatus:
        """One model now.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
        """
        return self._find(name).status()

    def ready(self) -> bool:
        """Whether every model that should be loaded is, and answers its heartbeat."""
        return all(model.healthy for model in self._models.values() if model.standing.wanted)

    @asynccontextmanager
    async def lease(self, name: str, claim: Claim = NOBODY) -> AsyncIterator[Lease]:
        """Hold a loaded model for one request; loads it if it is cold, wakes it if it is asleep.

        Args:
            name: Of a model, an alias or an adapter.
            claim: Who asks.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            ModelUnavailable: It is not ready yet, or ceases to be, or does not answer.
            QueueFull: Too many requests wait already.
            ConfigError: It failed to load.
            EngineError: The same.
        """
        model = self._find(name)
        lease = Lease(model, name if name in self._adapters else None, claim)
        try:
            await model.loaded()
            yield lease
        finally:
            lease.release()

    async def load(self, name: str) -> ModelStatus:
        """Make a model ready and wait for it: a failed one is tried again, a sleeping one wakes.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            StateConflict: It was unloaded or put to sleep meanwhile.
            ConfigError: It cannot be loaded.
            EngineError: The same.
        """
        model = self._find(name)
        if model.standing.state in (ModelState.UNLOADING, ModelState.FALLING_ASLEEP):
            await model.settled()
        model.begin_load()
        return await self._made_ready(model)

    async def unload(self, name: str) -> ModelStatus:
        """Let a model's requests end, then give its memory back.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            StateConflict: It is already being unloaded.
        """
        model = self._find(name)
        await model.unload(self._settings.drain_timeout)
        return model.status()

    async def sleep(self, name: str, level: int) -> ModelStatus:
        """Let a model's requests end, then let its engine give memory back.

        Args:
            name: Of a model, an alias or an adapter.
            level: 1 keeps the weights in the memory of the host, 2 drops them.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            StateConflict: It is not ready.
            RequestError: Its engine cannot sleep, or not so.
            EngineError: Its engine failed, and its host is replaced.
        """
        model = self._find(name)
        await model.sleep(level, self._settings.drain_timeout)
        return model.status()

    async def wake(self, name: str) -> ModelStatus:
        """Wake a model and wait for it.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            StateConflict: It is not loaded, or was unloaded meanwhile.
            UnsupportedParameter: Its engine cannot sleep.
            EngineError: It could not be woken, and not be loaded instead.
        """
        model = self._find(name)
        if model.standing.state is ModelState.FALLING_ASLEEP:
            await model.settled()
        model.begin_wake()
        return await self._made_ready(model)

    async def reset_prefix_cache(self, name: str, request_id: str) -> ModelStatus:
        """Let a model's engine forget every cached prefix.

        Raises:
            ModelNotFound: No model, alias or adapter has that name.
            StateConflict: It is not ready.
            RequestError: Its engine cannot do that.
            EngineError: Its engine failed.
        """
        model = self._find(name)
        await model.reset_prefix_cache(request_id)
        return model.status()

    async def _made_ready(self, model: Model) -> ModelStatus:
        await model.settled()
        if model.standing.state is ModelState.FAILED and model.standing.error is not None:
            raise model.standing.error
        if model.standing.state is not ModelState.READY:
            raise model.standing.conflict("that was ordered meanwhile")
        return model.status()

    def _find(self, name: str) -> Model:
        model = self._names.get(name) or self._adapters.get(name)
        if model is None:
            there = ", ".join(sorted((*self._models, *self._adapters))) or "none"
            raise ModelNotFound(f"model {name!r} does not exist; there are: {there}", param="model")
        return model
