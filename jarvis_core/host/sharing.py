"""An engine of which a request has some places only, and waits for more.

A request for several answers, or of several prompts, takes a place at the engine for each. Where
keys share the engine the server gives it as many as may be its own, and more as its turn comes: so
its answers are generated one by one here, each in a place, with the numbers and seeds that they
would have together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing

from attrs import evolve, frozen

from jarvis_core.context_length import completion_room
from jarvis_core.interfaces import Engine
from jarvis_core.merging import merged
from jarvis_core.structs import (
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    Usage,
)

_SEEDS = 2**63
"""Seeds are below this."""


@frozen(kw_only=True, eq=False)
class SharedEngine:
    """An engine for one request, which fills no more than its places.

    Attributes:
        engine: Generates one answer in each place.
        places: Those that are free.
    """

    engine: Engine
    places: asyncio.Semaphore

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        return self.engine.info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Continue a prompt; see ``Engine.generate``.

        If no place is free, only the prompt's length is looked at before it is accepted.
        """
        async with AsyncExitStack() as stack:
            first = self._one(request, 0)
            await stack.enter_async_context(aclosing(first))
            if self.places.locked():
                yield EngineOutput(prompt_tokens=await self._fitting(request))
            else:
                yield await anext(first)
            others = [self._one(request, index) for index in range(1, request.n)]
            for one in others:
                await stack.enter_async_context(aclosing(one))
            outputs = await stack.enter_async_context(aclosing(merged([first, *others])))
            usages: list[Usage] = []
            async for _, output in outputs:
                if output.prompt_tokens is not None and not output.prompt_logprobs:
                    continue  # it was accepted before
                if output.usage is not None:
                    usages.append(output.usage)
                    whole = _together(usages) if len(usages) == request.n else None
                    output = evolve(output, usage=whole)
                yield evolve(output, prompt_tokens=None)

    async def _one(
        self, request: GenerationRequest, index: int
    ) -> AsyncGenerator[EngineOutput, None]:
        """One of the answers, once there is a place for it."""
        alone = evolve(
            request,
            n=1,
            sampling=_with_seed(request.sampling, index),
            prompt_logprobs=None if index else request.prompt_logprobs,
        )
        async with self.places, aclosing(self.engine.generate(alone)) as outputs:
            async for output in outputs:
                yield evolve(output, index=index)

    async def _fitting(self, request: GenerationRequest) -> int:
        """Tokens of a prompt that fits.

        Raises:
            ContextLengthExceeded: It does not.
        """
        tokens = len(await self.engine.tokenize(request.prompt))
        completion_room(tokens, request.sampling.max_tokens, self.info.context_length)
        return tokens

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        return await self.engine.tokenize(prompt)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of token ids."""
        return await self.engine.detokenize(token_ids)

    def stats(self) -> EngineStats:
        """Those of the engine."""
        return self.engine.stats()

    async def aclose(self) -> None:
        """The engine is others' too."""


def _with_seed(sampling: SamplingParams, index: int) -> SamplingParams:
    """The sampling params of one of several answers; see ``GenerationRequest.n``."""
    if sampling.seed is None or not index:
        return sampling
    return evolve(sampling, seed=(sampling.seed + index) % _SEEDS)


def _together(usages: Sequence[Usage]) -> Usage:
    """The usage of answers to one prompt; all but the first find it in the cache."""
    return Usage(
        prompt_tokens=usages[0].prompt_tokens,
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=min(usage.cached_tokens for usage in usages),
    )
