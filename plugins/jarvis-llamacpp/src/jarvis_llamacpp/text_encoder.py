"""Tokenizes prompts beside the event loop: long ones on a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jarvis_core import Prompt
from jarvis_llamacpp.bad_words import tokenize_words
from jarvis_llamacpp.deep_stack import run_with_stack
from jarvis_llamacpp.tokenizer import Tokenizer

T = TypeVar("T")

_SHORT = 4096
"""Characters that are tokenized at once."""


class TextEncoder:
    """A tokenizer for coroutines.

    Args:
        tokenizer: Does the work.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; see ``Tokenizer.encode``."""
        characters = sum(len(segment.text) for segment in prompt.segments)
        return await self._run(lambda: self._tokenizer.encode(prompt), characters)

    async def encode_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Token ids of texts that must not come; see ``tokenize_words``."""
        return await self._run(
            lambda: tokenize_words(words, self._tokenizer.encode_content), sum(map(len, words))
        )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; see ``Tokenizer.decode``."""
        return self._tokenizer.decode(token_ids)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T], characters: int) -> T:
        if characters <= _SHORT:
            return work()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, run_with_stack, work, characters)
