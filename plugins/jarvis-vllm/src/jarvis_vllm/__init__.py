"""The vLLM engine of Jarvis as a plugin; vllm is imported when a model is loaded, not here."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core import Engine, EngineType, ModelSpec, hookimpl
from jarvis_vllm.settings import VllmSettings


async def load(model: ModelSpec, settings: VllmSettings) -> Engine:
    """Load a model.

    Raises:
        ConfigError: vllm cannot be imported, finds no device, or, in this version, in any case.
    """
    from jarvis_vllm.engine import load_engine

    return await load_engine(model, settings)


VLLM = EngineType(
    name="vllm",
    env_prefix="JARVIS_VLLM_",
    load=load,
    settings=VllmSettings,
    # No weights patterns: while nothing can be loaded, gigabytes must not be downloaded first.
)


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    """The engine ``vllm``."""
    return [VLLM]
