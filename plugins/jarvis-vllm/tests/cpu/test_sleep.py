"""What the engine does around vLLM's own sleep, which a CPU does not have: vLLM is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest

from jarvis_core import EngineDied, ModelInfo, ModelUnavailable
from jarvis_vllm.stats import Counters
from jarvis_vllm.tokenizer import Tokenizer

if TYPE_CHECKING:  # vLLM warns while it is imported, which only tests may let it
    from jarvis_vllm.engine import VllmEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

HANG = 0.2


class PlayedLlm:
    """Answers nothing while it is ``blocked``, as vLLM while it moves weights.

    Attributes:
        asked: What it was asked for.
    """

    errored = False

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.blocked = False
        self.moving = 0.0

    async def is_sleeping(self) -> bool:
        while self.blocked:
            await asyncio.sleep(0.01)
        return False

    async def reset_prefix_cache(self, reset_running_requests: bool = False) -> bool:
        self.asked.append(("reset", reset_running_requests))
        return True

    async def sleep(self, level: int) -> None:
        self.asked.append(("sleep", level))
        self.blocked = True
        await asyncio.sleep(self.moving)
        self.blocked = False

    async def wake_up(self, tags: list[str]) -> None:
        self.asked.append(("wake_up", *tags))

    async def collective_rpc(self, method: str) -> None:
        self.asked.append((method,))

    async def list_loras(self) -> set[int]:
        return {1, 2}

    async def remove_lora(self, number: int) -> bool:
        self.asked.append(("remove_lora", number))
        return True

    def shutdown(self) -> None:
        self.blocked = False


@pytest.fixture
def llm() -> PlayedLlm:
    return PlayedLlm()


@pytest.fixture
async def make(llm: PlayedLlm) -> AsyncIterator[Callable[..., VllmEngine]]:
    """Makes engines, and closes them with the test."""
    from jarvis_vllm.engine import VllmEngine

    async with AsyncExitStack() as stack:

        def make(**changes: Any) -> VllmEngine:
            info = ModelInfo(name="m", source="m", engine="vllm", context_length=64, **changes)
            engine = VllmEngine(info, llm, cast(Tokenizer, None), Counters(), hang_timeout=HANG)
            stack.push_async_callback(engine.aclose)
            return engine

        yield make


async def test_weights_that_were_dropped_are_loaded_between_the_two_halves_of_waking(
    make: Callable[..., VllmEngine], llm: PlayedLlm
) -> None:
    engine = make()
    for level, reloads in ((1, []), (2, [("reload_weights",)])):
        llm.asked.clear()
        await engine.sleep(level)
        with pytest.raises(ModelUnavailable, match="wake it first"):
            await engine.reset()
        await engine.wake()
        assert llm.asked == [
            ("reset", False),
            ("sleep", level),
            ("wake_up", "weights"),
            *reloads,
            ("wake_up", "kv_cache"),
        ]


async def test_moving_weights_for_long_is_no_hang_but_silence_afterwards_is(
    make: Callable[..., VllmEngine], llm: PlayedLlm
) -> None:
    engine = make()
    llm.moving = 4 * HANG
    await engine.sleep(1)
    engine.stats()
    await engine.wake()
    llm.blocked = True
    async with asyncio.timeout(60):
        with pytest.raises(EngineDied, match="has not answered"):
            while True:
                engine.stats()
                await asyncio.sleep(0.01)


async def test_adapters_whose_weights_were_dropped_are_read_anew(
    make: Callable[..., VllmEngine], llm: PlayedLlm
) -> None:
    engine = make(adapters=("legal", "poet"))
    for level, dropped in ((1, []), (2, [("remove_lora", 1), ("remove_lora", 2)])):
        await engine.sleep(level)
        llm.asked.clear()
        await engine.wake()
        assert [asked for asked in llm.asked if asked[0] == "remove_lora"] == dropped


async def test_a_reset_forgets_what_runs_too(
    make: Callable[..., VllmEngine], llm: PlayedLlm
) -> None:
    """Without that vLLM forgets nothing as long as something runs."""
    await make().reset()
    assert llm.asked == [("reset", True)]
