"""How a model stands: its state and what went wrong, told to whoever waits for a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jarvis_core.errors import JarvisError, StateConflict
from jarvis_core.models.events import EventKind, ModelEvent
from jarvis_core.models.status import ModelState
from jarvis_core.settings import ModelConfig


class Standing:
    """How a model stands.

    Args:
        config: The model's configuration.
        announce: Told what happens to it.

    Attributes:
        state: Its state.
        wanted: Whether it should be ready.
        error: What went wrong last; None once it is ready.
    """

    def __init__(self, config: ModelConfig, announce: Callable[[ModelEvent], None]) -> None:
        self.state = ModelState.COLD
        self.wanted = config.preload
        self.error: JarvisError | None = None
        self._config = config
        self._announce = announce
        self._changed = asyncio.Event()

    def enter(self, state: ModelState) -> None:
        """Be in another state."""
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def fail(self, error: JarvisError) -> None:
        """Be of no use until it is loaded again."""
        self.error = error
        self.enter(ModelState.FAILED)
        self.tell("failed", message=error.message)

    async def changed(self) -> None:
        """Wait until another state is entered."""
        await self._changed.wait()

    def conflict(self, why: str) -> StateConflict:
        """The error for what cannot be done in this state."""
        return StateConflict(f"model {self._config.name!r} is {self.state.words}: {why}")

    def tell(
        self,
        kind: EventKind,
        *,
        message: str,
        seconds: float | None = None,
        done_bytes: int | None = None,
        total_bytes: int | None = None,
    ) -> None:
        """Announce what happens."""
        self._announce(
            ModelEvent(
                kind=kind,
                model=self._config.name,
                engine=self._config.engine,
                message=message,
                seconds=seconds,
                done_bytes=done_bytes,
                total_bytes=total_bytes,
            )
        )
