"""The engine echo against the kit that every engine has to pass."""

from collections.abc import AsyncIterator

import pytest

from jarvis_core import Engine, GenerationRequest, ModelSpec, PromptBuilder, SamplingParams
from jarvis_core.testing import EngineConformance
from jarvis_echo import ECHO, EchoSettings


async def loaded(context_length: int | None = None) -> Engine:
    model = ModelSpec(name="parrot", source="parrot", path="parrot", context_length=context_length)
    return await ECHO.load(model, EchoSettings())


class TestEchoConforms(EngineConformance):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        engine = await loaded()
        yield engine
        await engine.aclose()


@pytest.mark.anyio
async def test_it_says_the_newest_content_again() -> None:
    engine = await loaded(context_length=100)
    prompt = PromptBuilder().content("One.").scaffold("\n").content("Two.").scaffold("\n").build()
    request = GenerationRequest(id="1", prompt=prompt, sampling=SamplingParams(max_tokens=50))
    outputs = [output async for output in engine.generate(request)]

    assert "".join(output.text for output in outputs) == "Two."
    assert outputs[-1].finish_reason == "stop"
