"""What every model on vLLM has: a tokenizer, numbers, a sign of life, and an end."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from jarvis_core import (
    EngineDied,
    EngineStats,
    ModelInfo,
    ModelUnavailable,
    Prompt,
    QueueFull,
    RequestError,
    SamplingParams,
)
from jarvis_vllm import backend
from jarvis_vllm.prompt_encoder import PromptEncoder
from jarvis_vllm.sockets import SOCKETS
from jarvis_vllm.stats import Counters
from jarvis_vllm.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class VllmEngine:
    """What engines that generate and engines that make vectors have in common.

    Args:
        info: The loaded model.
        llm: vLLM's ``AsyncLLM``.
        tokenizer: The model's tokenizer.
        counters: The engine's numbers.
        hang_timeout: Seconds without an answer after which vLLM counts as dead.
    """

    def __init__(
        self,
        info: ModelInfo,
        llm: Any,
        tokenizer: Tokenizer,
        counters: Counters,
        *,
        hang_timeout: float,
    ) -> None:
        self._info = info
        self._llm = llm
        self._tokenizer = tokenizer
        self._counters = counters
        self._hang_timeout = hang_timeout
        self._dead: str | None = None
        self._closed = False
        self._asleep = 0
        self._moving = False
        self._queues: set[Any] = set()
        self._encoder = PromptEncoder(tokenizer)
        self._shutting_down: asyncio.Future[None] | None = None
        self._watching = asyncio.create_task(self._watch())

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        return self._info

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        return await self._encoder.encode(prompt)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible."""
        return self._tokenizer.decode(token_ids)

    def stats(self) -> EngineStats:
        """Gauges and counters.

        Raises:
            EngineDied: vLLM has died or hangs: the host is of no use any more.
        """
        if self._llm.errored:
            self._die("vLLM's engine process has died")
        if self._dead is not None:
            raise EngineDied(self._dead)
        return self._counters.read()

    async def sleep(self, level: int) -> None:
        """Give GPU memory back; vLLM would abort what runs, but the core lets it end first."""
        self._check()
        self._asleep = level
        with self._errors(), self._busy():
            await self._llm.reset_prefix_cache()
            await self._llm.sleep(level)

    async def wake(self) -> None:
        """Take GPU memory again, with the weights in it."""
        self._check(asleep=True)
        with self._errors(), self._busy():
            await self._llm.wake_up(["weights"])
            if self._asleep == 2:
                await self._llm.collective_rpc("reload_weights")
                await self._drop_adapters()
            await self._llm.wake_up(["kv_cache"])
        self._asleep = 0

    async def _drop_adapters(self) -> None:
        """Let vLLM read adapters anew when they are next asked for: theirs were weights too."""
        if self._info.adapters:
            for number in await self._llm.list_loras():
                await self._llm.remove_lora(number)

    async def reset(self) -> None:
        """Forget every cached prefix; what runs is computed anew, or vLLM would forget nothing."""
        self._check()
        with self._errors():
            await self._llm.reset_prefix_cache(reset_running_requests=True)

    async def aclose(self) -> None:
        """Abort what runs, and end vLLM's processes."""
        if self._shutting_down is None:
            self._closed = True
            self._watching.cancel()
            self._fail_all()
            loop = asyncio.get_running_loop()
            # A thread of its own: a loop that ends waits for those of its default executor.
            closer = ThreadPoolExecutor(1, thread_name_prefix="vllm-shutdown")
            self._shutting_down = loop.run_in_executor(closer, self._close)
            closer.shutdown(wait=False)
        await asyncio.shield(self._shutting_down)

    def _close(self) -> None:
        self._encoder.close()
        self._llm.shutdown()
        SOCKETS.remove()

    def _check(self, *, asleep: bool = False) -> None:
        if self._closed:
            raise EngineDied(f"model {self._info.name!r} is closed")
        if self._dead is not None:
            raise EngineDied(self._dead)
        if self._asleep and not asleep:
            raise ModelUnavailable(f"model {self._info.name!r} sleeps: wake it first")

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """While weights are moved vLLM answers nothing, and that may take minutes."""
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the core's errors for vLLM's."""
        try:
            yield
        except backend.EngineDeadError as error:
            if not self._closed:
                self._die("vLLM's engine process has died")
            self._check(asleep=True)
            raise EngineDied("vLLM's engine process has died") from error

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Raise the core's errors for what vLLM raises when it is given a request."""
        with self._errors():
            try:
                yield
            except backend.CLIENT_ERRORS as error:
                raise _refusal(error) from error
            except backend.OVERLOAD_ERRORS as error:
                raise QueueFull("vLLM's own queue is full", retry_after=1.0) from error

    async def _abort(self, queue: Any) -> None:
        if self._dead is None and not self._closed:
            await self._llm.abort(queue.request_id, internal=True)

    # -- whether vLLM lives ----------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask vLLM's engine process for a sign of life, and refresh its metrics, for ever."""
        try:
            while True:
                await self._sign_of_life()
                self._counters.metrics = await asyncio.to_thread(backend.metrics_text)
                await asyncio.sleep(min(5.0, self._hang_timeout / 4))
        except TimeoutError:
            self._die(f"vLLM's engine process has not answered for {self._hang_timeout:g} s")
        except backend.EngineDeadError:
            self._die("vLLM's engine process has died")
        except Exception as error:  # what its transport raises when the other side is gone
            self._die(f"vLLM's engine process cannot be asked: {type(error).__name__}: {error}")

    async def _sign_of_life(self) -> None:
        try:
            async with asyncio.timeout(self._hang_timeout):
                await self._llm.is_sleeping()
        except TimeoutError:
            if not self._moving:
                raise

    def _die(self, reason: str) -> None:
        if self._dead is None and not self._closed:
            self._dead = f"{reason}; model {self._info.name!r} is being loaded anew"
            _log.error(self._dead)
            self._fail_all()

    def _fail_all(self) -> None:
        for queue in self._queues:
            queue.put(backend.EngineDeadError())


def _refusal(error: Exception) -> RequestError:
    """The core's error for a request that vLLM refuses, without what the client wrote."""
    message = str(error.args[0] if error.args else error).partition("\n")[0]
    param = getattr(error, "parameter", None)
    if param is None:
        first = re.match(r"`?(\w+)", message)
        param = first[1] if first and hasattr(SamplingParams(), first[1]) else None
    return RequestError(message, param=param)
