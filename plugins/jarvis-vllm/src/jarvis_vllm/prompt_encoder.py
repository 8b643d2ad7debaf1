"""Tokenizes prompts beside the event loop: what waits is tokenized together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jarvis_core import Prompt
from jarvis_vllm.tokenizer import Tokenizer

_SHORT = 256
"""Characters that are tokenized at once: a thread's answer would take as long."""

_LONG = 16_384
"""Characters that are tokenized alone: what is tokenized together is done together."""

_TOGETHER = 1_048_576
"""Characters that are tokenized together at most."""

_THREADS = 2
"""One for prompts that are tokenized together; the other keeps them from waiting for a long one."""


class PromptEncoder:
    """Tokenizes prompts without keeping the event loop waiting.

    The tokenizer gives the interpreter lock back and takes all of the machine's cores when it has
    several texts. So while it is at work what comes is gathered, and goes to it in one call: a
    crowd of requests costs little more than one.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenizer")
        self._waiting: list[tuple[Prompt, asyncio.Future[list[int]]]] = []
        self._working: asyncio.Task[None] | None = None

    async def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            RequestError: As ``Tokenizer.encode``.
        """
        length = _length(prompt)
        if length <= _SHORT:
            return self._tokenizer.encode(prompt)
        loop = asyncio.get_running_loop()
        if length > _LONG:
            return await loop.run_in_executor(self._threads, self._tokenizer.encode, prompt)
        found: asyncio.Future[list[int]] = loop.create_future()
        self._waiting.append((prompt, found))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await found

    async def encode_all(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each of several prompts.

        Raises:
            RequestError: The first of them that is refused.
        """
        return list(await asyncio.gather(*map(self.encode, prompts)))

    async def encode_pairs(
        self, first: str, others: Sequence[str]
    ) -> list[tuple[list[int], list[int]]]:
        """Ids and types of a text with each of several others; see ``Tokenizer.encode_pairs``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._tokenizer.encode_pairs, first, others
        )

    def close(self) -> None:
        """End the threads; what waits is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Tokenize until nothing waits."""
        taken: list[tuple[Prompt, asyncio.Future[list[int]]]] = []
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = self._take()
                prompts = [prompt for prompt, _ in taken]
                results = await loop.run_in_executor(
                    self._threads, self._tokenizer.encode_each, prompts
                )
                for (_, found), result in zip(taken, results, strict=True):
                    if found.done():  # its client has left
                        continue
                    if isinstance(result, Exception):
                        found.set_exception(result)
                    else:
                        found.set_result(result)
        except Exception as error:
            for _, found in taken + self._waiting:
                if not found.done():
                    found.set_exception(error)
            self._waiting.clear()
        finally:
            self._working = None
            for _, found in taken + self._waiting:
                found.cancel()  # nothing happens to those that have their result

    def _take(self) -> list[tuple[Prompt, asyncio.Future[list[int]]]]:
        """The oldest of what waits, as much as is tokenized together."""
        length = count = 0
        for prompt, _ in self._waiting:
            length += _length(prompt)
            if count and length > _TOGETHER:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


def _length(prompt: Prompt) -> int:
    return sum(len(segment.text) for segment in prompt.segments)
