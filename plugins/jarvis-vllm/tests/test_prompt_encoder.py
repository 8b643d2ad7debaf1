from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from jarvis_core import Prompt, PromptBuilder, RequestError
from jarvis_vllm.prompt_encoder import PromptEncoder

BAD = "?" * 1000
BROKEN = "!" * 1000


class Lengths:
    """A tokenizer whose only id of a prompt is its length; it works while ``open`` is set.

    Attributes:
        calls: Lengths of the prompts of each call.
        at_work: Set once a call has begun.
    """

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.at_work = threading.Event()

    def encode(self, prompt: Prompt) -> list[int]:
        self.calls.append([len(prompt.text)])
        return [len(prompt.text)]

    def encode_each(self, prompts: Sequence[Prompt]) -> list[list[int] | RequestError]:
        self.calls.append([len(prompt.text) for prompt in prompts])
        self.at_work.set()
        assert self.open.wait(10)
        if any(prompt.text == BROKEN for prompt in prompts):
            raise ZeroDivisionError
        return [RequestError("bad") if p.text == BAD else [len(p.text)] for p in prompts]

    def encode_pairs(self, first: str, others: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        return [([len(first)], [len(other)]) for other in others]


def text(length: int) -> Prompt:
    return PromptBuilder().content("x" * length).build()


def content(words: str) -> Prompt:
    return PromptBuilder().content(words).build()


@pytest.fixture
def tokenizer() -> Lengths:
    return Lengths()


async def begun(tokenizer: Lengths, encoder: PromptEncoder) -> asyncio.Task[list[int]]:
    """A prompt at which the tokenizer is at work until it is opened."""
    tokenizer.open.clear()
    first = asyncio.create_task(encoder.encode(text(1000)))
    await asyncio.to_thread(tokenizer.at_work.wait, 10)
    return first


async def test_what_comes_while_the_tokenizer_is_at_work_is_tokenized_in_one_call(
    tokenizer: Lengths,
) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)
    others = asyncio.gather(*(encoder.encode(text(2000 + i)) for i in range(5)))
    await asyncio.sleep(0)
    tokenizer.open.set()

    assert await first == [1000]
    assert await others == [[2000], [2001], [2002], [2003], [2004]]
    assert tokenizer.calls == [[1000], [2000, 2001, 2002, 2003, 2004]]


async def test_neither_short_nor_long_prompts_wait_for_others(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)

    assert await encoder.encode(text(10)) == [10]
    assert await encoder.encode(text(100_000)) == [100_000]
    assert not first.done()
    tokenizer.open.set()
    await first


async def test_one_call_takes_a_bounded_length(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)
    others = asyncio.gather(*(encoder.encode(text(16_000)) for _ in range(100)))
    await asyncio.sleep(0)
    tokenizer.open.set()

    await first
    assert await others == [[16_000]] * 100
    assert [len(call) for call in tokenizer.calls] == [1, 65, 35]


async def test_a_refused_prompt_fails_alone(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)
    good, bad = asyncio.create_task(encoder.encode(text(500))), encoder.encode(content(BAD))
    tokenizer.open.set()

    with pytest.raises(RequestError, match="bad"):
        await bad
    assert await good == [500]
    assert await first == [1000]


async def test_a_client_that_leaves_takes_nothing_with_it(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)
    stays, leaves = (asyncio.create_task(encoder.encode(text(n))) for n in (500, 600))
    await asyncio.sleep(0)
    leaves.cancel()
    first.cancel()
    tokenizer.open.set()

    assert await stays == [500]
    assert await encoder.encode(text(700)) == [700]


async def test_a_tokenizer_that_breaks_fails_those_who_waited_and_nobody_later(
    tokenizer: Lengths,
) -> None:
    encoder = PromptEncoder(tokenizer)
    with pytest.raises(ZeroDivisionError):
        await encoder.encode(content(BROKEN))

    assert await encoder.encode(text(1000)) == [1000]


async def test_an_encoder_that_is_closed_leaves_nobody_waiting(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)
    first = await begun(tokenizer, encoder)
    second = asyncio.create_task(encoder.encode(text(2000)))
    await asyncio.sleep(0)
    encoder.close()
    tokenizer.open.set()

    assert await first == [1000]
    with pytest.raises(RuntimeError, match="after shutdown"):
        await asyncio.wait_for(second, 10)


async def test_several_prompts_and_pairs_are_tokenized_in_order(tokenizer: Lengths) -> None:
    encoder = PromptEncoder(tokenizer)

    assert await encoder.encode_all([text(n) for n in (300, 10, 400)]) == [[300], [10], [400]]
    assert await encoder.encode_pairs("abc", ["a", "bb"]) == [([3], [1]), ([3], [2])]
