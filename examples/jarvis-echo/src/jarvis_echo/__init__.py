"""What Jarvis calls: registration, and nothing heavy."""

from collections.abc import Iterable

from attrs import frozen

from jarvis_core import (
    Capabilities,
    ChatFormat,
    Engine,
    EngineType,
    ModelInfo,
    ModelSpec,
    hookimpl,
    setting,
)
from jarvis_echo.chat_format import TranscriptFormat

CAPABILITIES = Capabilities(parameters=frozenset({"max_tokens", "stop"}))


@frozen(kw_only=True)
class EchoSettings:
    """``JARVIS_ECHO_DELAY`` … or ``[models.NAME.settings]`` in ``jarvis.toml``."""

    delay: float = setting(default=0.0, ge=0, help="Seconds before each character")


async def load(model: ModelSpec, settings: EchoSettings) -> Engine:
    """Make the engine, in the engine host: only here is the backend imported."""
    from jarvis_echo.engine import EchoEngine

    return EchoEngine(model, settings)


ECHO = EngineType(
    name="echo",
    env_prefix="JARVIS_ECHO_",
    load=load,
    settings=EchoSettings,
    capabilities=CAPABILITIES,
)


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    """The engine ``echo``."""
    return [ECHO]


@hookimpl
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:
    """The format ``transcript``."""
    return [TranscriptFormat()]


@hookimpl
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    """``transcript`` for every model of this engine."""
    return "transcript" if model.engine == "echo" else None
