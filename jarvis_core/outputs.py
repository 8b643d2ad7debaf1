"""What an engine sends, in the order that ``Engine.generate`` promises, or an error that says so.

Without it a wrong engine would be noticed far away: a request without usage would wait for good.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from jarvis_core.errors import EngineError
from jarvis_core.interfaces import Engine
from jarvis_core.structs import EngineOutput, GenerationRequest


async def outputs_of(
    engine: Engine, request: GenerationRequest
) -> AsyncGenerator[EngineOutput, None]:
    """Continue a prompt, see ``Engine.generate``.

    Raises:
        EngineError: The engine sends something else than it promises; the message says what.
        JarvisError: What the engine raises.
    """
    outputs = engine.generate(request)
    if not hasattr(outputs, "__anext__"):
        raise _broken(engine, f"generate gives {type(outputs).__name__}, not an async generator")
    accepted, ended = False, False
    open_indexes = set(range(request.n))
    async with aclosing(outputs):
        async for output in outputs:
            if not isinstance(output, EngineOutput):
                raise _broken(engine, f"it sent {output!r}, not an EngineOutput")
            if ended:
                raise _broken(engine, "it sent an output after the one with the usage")
            if not accepted:
                if output.prompt_tokens is None:
                    raise _broken(engine, "its first output has no prompt_tokens")
                accepted = True
            index = output.index
            if index not in open_indexes and not _may_be_late(output, request.n):
                raise _broken(engine, _no_such_index(index, request.n))
            if output.finish_reason is not None:
                if output.finish_reason not in ("stop", "length"):
                    raise _broken(engine, f"its finish_reason is {output.finish_reason!r}")
                open_indexes.discard(index)
            if output.usage is not None:
                ended = True
                if open_indexes:
                    raise _broken(engine, _unfinished(open_indexes))
            yield output
    if not ended:
        missing = _unfinished(open_indexes) if open_indexes else "its last output has no usage"
        raise _broken(engine, missing)


def _may_be_late(output: EngineOutput, n: int) -> bool:
    """Whether an output may come after the finish reason of its index: the usage may."""
    return 0 <= output.index < n and not output.text and output.finish_reason is None


def _no_such_index(index: int, n: int) -> str:
    if 0 <= index < n:
        return f"it sent an output of index {index} after the one with the finish_reason"
    return f"it sent an output of index {index}, and indexes go from 0 to {n - 1}"


def _unfinished(indexes: set[int]) -> str:
    return f"it left answers unfinished, without a finish_reason: {sorted(indexes)}"


def _broken(engine: Engine, what: str) -> EngineError:
    return EngineError(f"engine {engine.info.engine!r} does not do what engines have to: {what}")
