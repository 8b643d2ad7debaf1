"""Outputs pass as they are, and an engine that breaks its promise is told which."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from jarvis_core.errors import EngineError
from jarvis_core.outputs import outputs_of
from jarvis_core.structs import EngineOutput, GenerationRequest, ModelSpec, Prompt, Usage
from jarvis_core.testing import FakeEngine

pytestmark = pytest.mark.anyio

SPEC = ModelSpec(name="m", source="s", path="s")
ACCEPTED = EngineOutput(prompt_tokens=1)
TEXT = EngineOutput(text="word")
USAGE = Usage(prompt_tokens=1, completion_tokens=1)
END = EngineOutput(finish_reason="stop", usage=USAGE)


class Sends(FakeEngine):
    """Sends what it was made with."""

    def __init__(self, *outputs: Any) -> None:
        super().__init__(SPEC)
        self._outputs = outputs
        self.closed = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        try:
            for output in self._outputs:
                yield output
        finally:
            self.closed = True


async def read(engine: FakeEngine, n: int = 1) -> list[EngineOutput]:
    request = GenerationRequest(id="r", prompt=Prompt(), n=n)
    return [output async for output in outputs_of(engine, request)]


async def test_right_outputs_pass_as_they_are() -> None:
    outputs = [
        EngineOutput(prompt_tokens=1),
        EngineOutput(index=1, text="b"),
        EngineOutput(index=1, finish_reason="length"),
        EngineOutput(index=0, text="a", finish_reason="stop", usage=USAGE),
    ]
    assert await read(Sends(*outputs), n=2) == outputs


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        ([TEXT, END], "its first output has no prompt_tokens"),
        ([ACCEPTED, "word"], "it sent 'word', not an EngineOutput"),
        ([ACCEPTED, TEXT, END, TEXT], "an output after the one with the usage"),
        ([ACCEPTED, TEXT, END, END], "an output after the one with the usage"),
        ([ACCEPTED, EngineOutput(index=1, text="x")], "of index 1, and indexes go from 0 to 0"),
        ([ACCEPTED, EngineOutput(index=-1, text="x")], "of index -1, and indexes go from 0 to 0"),
        ([EngineOutput(index=5, prompt_tokens=1)], "of index 5, and indexes go from 0 to 0"),
        ([ACCEPTED, EngineOutput(index=3, finish_reason="stop")], "of index 3"),
        (
            [ACCEPTED, EngineOutput(finish_reason="stop"), TEXT],
            "of index 0 after the one with the finish_reason",
        ),
        ([ACCEPTED, EngineOutput(finish_reason="eos")], "its finish_reason is 'eos'"),  # type: ignore[arg-type]
        ([ACCEPTED, TEXT, EngineOutput(finish_reason="stop")], "its last output has no usage"),
        (
            [ACCEPTED, TEXT, EngineOutput(usage=USAGE)],
            r"unfinished, without a finish_reason: \[0\]",
        ),
        ([ACCEPTED, TEXT], r"unfinished, without a finish_reason: \[0\]"),
        ([], "unfinished"),
    ],
)
async def test_a_broken_promise_is_named_with_the_engine(outputs: list[Any], what: str) -> None:
    engine = Sends(*outputs)
    with pytest.raises(EngineError, match=f"engine 'fake' does not do .*{what}"):
        await read(engine)
    assert engine.closed


async def test_the_usage_may_come_after_every_finish_reason() -> None:
    outputs = [ACCEPTED, EngineOutput(finish_reason="stop"), EngineOutput(usage=USAGE)]
    assert await read(Sends(*outputs)) == outputs


async def test_every_answer_has_to_have_an_end() -> None:
    with pytest.raises(EngineError, match=r"unfinished, without a finish_reason: \[0, 2\]"):
        await read(Sends(ACCEPTED, EngineOutput(index=1, finish_reason="stop")), n=3)


async def test_generate_that_is_no_generator_is_named() -> None:
    class GivesIterator(FakeEngine):
        def generate(self, request: GenerationRequest) -> Iterator[EngineOutput]:  # type: ignore[override]
            yield ACCEPTED

    with pytest.raises(EngineError, match="generate gives generator, not an async generator"):
        await read(GivesIterator(SPEC))


async def test_closing_ends_the_work() -> None:
    engine = Sends(ACCEPTED, TEXT, END)
    outputs = outputs_of(engine, GenerationRequest(id="r", prompt=Prompt()))
    await anext(outputs)
    await outputs.aclose()
    assert engine.closed
