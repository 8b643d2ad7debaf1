"""Models that make vectors and scores of text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any

from attrs import evolve

from jarvis_core import (
    ContextLengthExceeded,
    Embeddings,
    EngineOutput,
    GenerationRequest,
    Prompt,
    PromptBuilder,
    Ranking,
    RequestError,
    Usage,
)
from jarvis_vllm import backend
from jarvis_vllm.engine import VllmEngine

_CROSS_ENCODER = ("score", "classify")
"""Tasks of vLLM with which a model scores a pair of texts; older versions call it ``score``."""


def pooling_tasks(supported: Collection[str]) -> dict[str, str]:
    """Tasks of the core that a model can do, and the task of vLLM behind each.

    Args:
        supported: Tasks of vLLM.
    """
    tasks = {}
    if "embed" in supported:
        tasks["embed"] = tasks["rerank"] = "embed"
    for name in _CROSS_ENCODER:
        if name in supported:
            tasks["rerank"] = "classify" if "classify" in supported else name
    return tasks


class PoolingEngine(VllmEngine):
    """A model that makes vectors of texts, or scores pairs of them.

    Args:
        tasks: What it does, and the task of vLLM behind it.
        common: What every engine here has.
    """

    def __init__(self, *, tasks: dict[str, str], **common: Any) -> None:
        super().__init__(**common)
        self._tasks = tasks
        self._serial = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Refuse: such a model writes nothing."""
        raise RequestError(f"model {self._info.name!r} makes vectors and scores, no text")
        yield EngineOutput()  # makes this a generator

    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        """One vector of length 1 for each prompt."""
        self._check()
        ids = await self._encoder.encode_all(prompts)
        vectors = await self._pool_all([(i, None) for i in ids], "embed", param="input")
        return Embeddings(
            vectors=tuple(map(_normalized, vectors)), prompt_tokens=sum(map(len, ids))
        )

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """One score for each document: of a cross-encoder, or the vectors' likeness."""
        self._check()
        if self._tasks["rerank"] == "embed":
            texts = [PromptBuilder().content(text).build() for text in (query, *documents)]
            found = await self.embed([evolve(text, add_special_tokens=True) for text in texts])
            asked, *others = found.vectors
            scores = [sum(a * b for a, b in zip(asked, o, strict=True)) for o in others]
            return Ranking(scores=tuple(scores), prompt_tokens=found.prompt_tokens)
        pairs = await self._encoder.encode_pairs(query, documents)
        vectors = await self._pool_all(pairs, self._tasks["rerank"], param="documents")
        return Ranking(
            scores=tuple(vector[0] for vector in vectors),
            prompt_tokens=sum(len(ids) for ids, _ in pairs),
        )

    async def _pool_all(
        self, prompts: Sequence[tuple[list[int], list[int] | None]], task: str, *, param: str
    ) -> list[list[float]]:
        length = self._info.context_length
        for ids, _ in prompts:
            if len(ids) > length:
                raise ContextLengthExceeded(
                    f"the text has {len(ids):,} tokens; the context length is {length:,} tokens",
                    param=param,
                )
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(self._pool(ids, types, task, place))
                for place, (ids, types) in enumerate(prompts)
            ]
        return [task.result() for task in work]

    async def _pool(
        self, ids: list[int], types: list[int] | None, task: str, place: int
    ) -> list[float]:
        """What the model makes of one text.

        Args:
            ids: Its tokens.
            types: Their types, for pairs.
            task: Task of vLLM.
            place: Texts of the same call before it; vLLM takes the first one of another call
                sooner than the hundredth of this one.
        """
        params = backend.PoolingParams(task=task)
        if types is not None and any(types):
            params.extra_kwargs = {"compressed_token_type_ids": types.index(1)}
        self._serial += 1
        self._counters.begin(len(ids), 1)
        queue = None
        finished = False
        try:
            with self._refusals():
                queue = await self._llm.add_request(
                    f"{self._serial}", backend.tokens_input(ids), params, priority=place
                )
            self._queues.add(queue)
            with self._errors():
                output = await queue.get()
            finished = True
            return [float(number) for number in output.outputs.data.flatten().tolist()]
        finally:
            self._counters.end(Usage(prompt_tokens=len(ids), completion_tokens=0), 1)
            self._queues.discard(queue)
            if queue is not None and not finished:
                await self._abort(queue)


def _normalized(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return tuple(number / length for number in vector)
