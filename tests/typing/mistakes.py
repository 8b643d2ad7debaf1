"""Mistakes that type checkers must catch: an ``ignore`` that catches nothing is an error itself."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core import (
    ChatFormat,
    Constraint,
    Delta,
    DeltaParser,
    Engine,
    EngineOutput,
    EngineType,
    ModelSpec,
    SamplingParams,
)


class Deaf:
    """Lacks ``feed``."""

    def finish(self) -> Iterable[Delta]:
        return ()


class Nameless:
    """Lacks everything."""


async def load_nothing(model: ModelSpec, settings: object) -> None:
    return None


PARSER: DeltaParser = Deaf()  # type: ignore[assignment]
FORMAT: ChatFormat = Nameless()  # type: ignore[assignment]
ENGINE: Engine = Nameless()  # type: ignore[assignment]
ENGINE_TYPE = EngineType(
    name="echo",
    env_prefix="JARVIS_ECHO_",
    load=load_nothing,  # type: ignore[arg-type]
    settings=dict,
)
NO_PREFIX = EngineType(name="echo", load=load_nothing, settings=dict)  # type: ignore[call-arg,arg-type]
KIND = Constraint(kind="yaml", value="a: b")  # type: ignore[arg-type]
REASON = EngineOutput(finish_reason="tool_calls")  # type: ignore[arg-type]
WARM = SamplingParams(temperature="warm")  # type: ignore[arg-type]
POSITIONAL = SamplingParams(0.5)  # type: ignore[call-arg]


def cool_down(sampling: SamplingParams) -> None:
    sampling.temperature = 0.0  # type: ignore[misc]
