"""What a model is doing, as others see it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from attrs import field, frozen

from jarvis_core.models.sampling import SamplingDefault
from jarvis_core.structs import EngineStats, ModelInfo


class ModelState(StrEnum):
    """Where a model is in its life."""

    COLD = "cold"
    LOADING = "loading"
    READY = "ready"
    FALLING_ASLEEP = "falling_asleep"
    ASLEEP = "asleep"
    WAKING = "waking"
    UNLOADING = "unloading"
    FAILED = "failed"

    @property
    def words(self) -> str:
        """It as messages say it."""
        return self.value.replace("_", " ")


BECOMING_READY = frozenset({ModelState.LOADING, ModelState.WAKING})
"""States that end in ready, if nothing fails."""

PASSING = BECOMING_READY | {ModelState.FALLING_ASLEEP, ModelState.UNLOADING}
"""States that end by themselves."""


@frozen(kw_only=True)
class ModelStatus:
    """A model at one moment.

    Attributes:
        name: The configured name.
        aliases: Other names that clients may ask for.
        source: Path or hub id of its weights, as configured.
        engine: Name of the engine type.
        chat_format: Name of the chat format; None until it is detected.
        chat_format_reason: Why it is that one; None unless it is loaded.
        state: Where it is in its life.
        healthy: Whether it is ready and its host answers the heartbeat.
        wanted: Whether it should be loaded: preloaded or loaded since, and neither unloaded nor
            put to sleep.
        info: The loaded model, None unless it is loaded.
        error: Why it failed or last died.
        created: Seconds since the epoch at which it was configured.
        loaded_bytes: Bytes downloaded so far, while it is downloaded.
        total_bytes: Bytes to download.
        stats: The engine's last known stats.
        requests: Requests that hold a lease.
        waiting: Of those, requests of which no delta has come yet.
        load_seconds: Seconds that the last load took.
        sampling: The defaults of sampling params by name; empty unless it is loaded.
        adapters: Names of its LoRA adapters, each a name that clients may ask for.
    """

    name: str
    aliases: tuple[str, ...]
    source: str
    engine: str
    chat_format: str | None
    state: ModelState
    healthy: bool
    wanted: bool
    info: ModelInfo | None
    error: str | None
    created: int
    loaded_bytes: int | None
    total_bytes: int | None
    stats: EngineStats | None
    requests: int
    waiting: int
    load_seconds: float | None
    sampling: Mapping[str, SamplingDefault] = field(factory=dict)
    adapters: tuple[str, ...] = ()
    chat_format_reason: str | None = None

    @property
    def context_length(self) -> int | None:
        """Tokens that fit in one request, None unless it is loaded."""
        return None if self.info is None else self.info.context_length
