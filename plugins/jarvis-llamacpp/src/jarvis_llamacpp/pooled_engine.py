"""The engine of models that give vectors or scores instead of text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import numpy as np

from jarvis_core import (
    ContextLengthExceeded,
    Embeddings,
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelInfo,
    Prompt,
    Ranking,
    Segment,
    SegmentKind,
    UnsupportedParameter,
)
from jarvis_llamacpp.model import LlamaModel
from jarvis_llamacpp.pooled_context import Vector
from jarvis_llamacpp.pooler import Pooler
from jarvis_llamacpp.text_encoder import TextEncoder

_QUERY, _DOCUMENT = "{query}", "{document}"


class PooledEngine:
    """A GGUF model that embeds or ranks."""

    def __init__(
        self, info: ModelInfo, model: LlamaModel, pooler: Pooler, encoder: TextEncoder
    ) -> None:
        """Join the parts; ``load_engine`` makes them."""
        self._info = info
        self._model = model
        self._pooler = pooler
        self._encoder = encoder
        self._closing: asyncio.Future[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        return self._info

    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        """One vector of length 1 for each prompt; see ``jarvis_core.Embedder``."""
        sequences = [await self.tokenize(prompt) for prompt in prompts]
        for ids in sequences:
            self._check_length(len(ids), "input")
        vectors = await self._pooler.vectors(sequences)
        return Embeddings(
            vectors=[_normalized(vector) for vector in vectors],
            prompt_tokens=sum(map(len, sequences)),
        )

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """One score for each document; see ``jarvis_core.Reranker``."""
        asked = await self._encoder.encode(_content(query))
        pairs = []
        for document in documents:
            ids = await self._pair(query, asked, document)
            self._check_length(len(ids), "documents")
            pairs.append(ids)
        vectors = await self._pooler.vectors(pairs)
        return Ranking(
            scores=[float(vector[0]) for vector in vectors], prompt_tokens=sum(map(len, pairs))
        )

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Refuse: this model does not generate."""
        raise UnsupportedParameter(f"model {self._info.name!r} does not generate text")
        yield

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        self._pooler.check()
        ids = await self._encoder.encode(prompt)
        if prompt.add_special_tokens and prompt.token_ids is None:
            ids += self._model.vocabulary.closing
        return ids

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible."""
        return self._encoder.decode(token_ids)

    def stats(self) -> EngineStats:
        """Gauges and counters."""
        return self._pooler.stats()

    async def aclose(self) -> None:
        """Fail what waits, and free context and weights."""
        loop = asyncio.get_running_loop()
        if self._closing is None:
            self._closing = loop.run_in_executor(None, self._close)
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        self._pooler.close()
        self._encoder.close()
        self._model.close()

    def _check_length(self, count: int, param: str) -> None:
        length = self._info.context_length
        if count > length:
            raise ContextLengthExceeded(
                f"the text has {count:,} tokens; the context length is {length:,} tokens",
                param=param,
            )

    async def _pair(self, query: str, asked: list[int], document: str) -> list[int]:
        """Token ids of a query with a document, as the model was trained with.

        Source: format_prompt_rerank in tools/server of llama.cpp, llama-cpp-python 0.3.36.
        """
        template = self._model.rerank_template
        if template is None:
            vocabulary = self._model.vocabulary
            opening = [vocabulary.bos_id] if vocabulary.adds_bos else []
            found = await self._encoder.encode(_content(document))
            ids = [*opening, *asked, *vocabulary.between, *found, *vocabulary.closing]
            return [i for i in ids if i is not None]
        segments = []
        rest = template
        for name, text in ((_QUERY, query), (_DOCUMENT, document)):
            before, _, rest = rest.partition(name)
            segments.append(Segment(kind=SegmentKind.SCAFFOLD, text=before))
            segments.append(Segment(kind=SegmentKind.CONTENT, text=text))
        segments.append(Segment(kind=SegmentKind.SCAFFOLD, text=rest))
        return await self._encoder.encode(Prompt(segments=tuple(segments)))


def _content(text: str) -> Prompt:
    return Prompt(segments=(Segment(kind=SegmentKind.CONTENT, text=text),))


def _normalized(vector: Vector) -> list[float]:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    found: list[float] = (vector / length if length else vector).tolist()
    return found
