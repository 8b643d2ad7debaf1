"""A loaded model in its host: what it does for each kind of request."""

from __future__ import annotations

import array
import asyncio
import math
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from attrs import frozen

from jarvis_core.chat import Accepted, render, stop_strings, stream_chat
from jarvis_core.completion import stream_completion, text_prompt
from jarvis_core.composition import compose_constraint
from jarvis_core.errors import ContextLengthExceeded, EngineError, UnsupportedParameter
from jarvis_core.host.calls import (
    CallRequest,
    Detokenized,
    DetokenizeRequest,
    Done,
    EmbedRequest,
    PackedEmbeddings,
    Rendered,
    RenderRequest,
    RerankRequest,
    ResetPrefixCache,
    SleepRequest,
    StreamRequest,
    TokenizeRequest,
    Tokens,
    WakeRequest,
)
from jarvis_core.host.sharing import SharedEngine
from jarvis_core.interfaces import ChatFormat, Embedder, Engine, PrefixCache, Reranker, Sleeper
from jarvis_core.structs import (
    ChatRequest,
    Delta,
    FormatContext,
    ModelInfo,
    Prompt,
    Ranking,
    Segment,
    SegmentKind,
    TextOrTokens,
)


@frozen(kw_only=True)
class Loaded:
    """A loaded model.

    Attributes:
        engine: The engine.
        chat_format: Renders and parses its chats.
        info: The model as chat formats see it: its template may be one that was set for it.
    """

    engine: Engine
    chat_format: ChatFormat
    info: ModelInfo

    def stream(
        self, request: StreamRequest, request_id: str, places: asyncio.Semaphore | None = None
    ) -> AsyncGenerator[Accepted | Delta, None]:
        """Answer with ``Accepted`` and deltas.

        Args:
            request: The request.
            request_id: For logs.
            places: What each of its sequences needs; None where they need nothing.
        """
        engine = self.engine
        if places is not None:
            engine = SharedEngine(engine=engine, places=places)
        if isinstance(request, ChatRequest):
            return stream_chat(
                request,
                engine=engine,
                model=self.info,
                chat_format=self.chat_format,
                request_id=request_id,
            )
        return stream_completion(request, engine=engine, request_id=request_id)

    async def call(self, request: CallRequest) -> Any:
        """Answer with one result.

        Raises:
            RequestError: The client got something wrong.
            EngineError: The engine failed, or has not the protocol of what it says it can do.
        """
        engine = self.engine
        match request:
            case EmbedRequest() if isinstance(engine, Embedder):
                return await _embed(engine, request)
            case RerankRequest() if isinstance(engine, Reranker):
                return await _rerank(engine, request)
            case TokenizeRequest():
                prompt = text_prompt(request.text, add_special_tokens=request.add_special_tokens)
                with _too_long("prompt"):
                    return await self._tokens(prompt, with_texts=request.with_texts)
            case DetokenizeRequest():
                return Detokenized(text=await engine.detokenize(request.ids))
            case RenderRequest():
                return await self._render(request)
            case ResetPrefixCache() if isinstance(engine, PrefixCache):
                await engine.reset()
            case SleepRequest() if isinstance(engine, Sleeper):
                await engine.sleep(request.level)
            case WakeRequest() if isinstance(engine, Sleeper):
                await engine.wake()
            case _:
                kind = type(request).__name__
                raise EngineError(f"engine {engine.info.engine!r} has no method for {kind}")
        return Done()

    async def _render(self, request: RenderRequest) -> Rendered:
        chat = request.chat
        context = FormatContext(model=self.info, now=datetime.now())
        prompt = await render(chat, chat_format=self.chat_format, context=context)
        return Rendered(
            text=prompt.text,
            tokens=await self._tokens(prompt, with_texts=request.with_texts),
            stop=stop_strings(chat.sampling, prompt),
            starts_in_reasoning=prompt.starts_in_reasoning,
            constraint=compose_constraint(chat, self.chat_format, context, prompt),
        )

    async def _tokens(self, prompt: Prompt, *, with_texts: bool) -> Tokens:
        ids = await self.engine.tokenize(prompt)
        texts = None
        if with_texts:
            texts = tuple([await self.engine.detokenize((one,)) for one in ids])
        return Tokens(ids=tuple(ids), texts=texts)


@contextmanager
def _too_long(param: str) -> Iterator[None]:
    """Name the parameter whose text does not fit: engines know prompts only."""
    try:
        yield
    except ContextLengthExceeded as error:
        error.param = param
        raise


async def _embed(engine: Embedder, request: EmbedRequest) -> PackedEmbeddings:
    with _too_long("input"):
        found = await engine.embed([_content_prompt(text) for text in request.inputs])
    return PackedEmbeddings(
        vectors=tuple(_packed(vector, request.dimensions) for vector in found.vectors),
        prompt_tokens=found.prompt_tokens,
    )


def _content_prompt(text: TextOrTokens) -> Prompt:
    """A text of which nothing is a control token."""
    if not isinstance(text, str):
        return Prompt(token_ids=text)
    return Prompt(segments=(Segment(kind=SegmentKind.CONTENT, text=text),), add_special_tokens=True)


def _packed(vector: Sequence[float], dimensions: int | None) -> bytes:
    """A vector as float32, cut to its first numbers and made of length 1 again."""
    if dimensions is not None and dimensions < len(vector):
        vector = vector[:dimensions]
        length = math.sqrt(sum(x * x for x in vector)) or 1.0
        vector = [x / length for x in vector]
    elif dimensions is not None and dimensions > len(vector):
        raise UnsupportedParameter(
            f"dimensions must be at most {len(vector)}, which this model's vectors have",
            param="dimensions",
        )
    packed = array.array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


async def _rerank(engine: Reranker, request: RerankRequest) -> Ranking:
    with _too_long("documents"):
        found = await engine.rerank(request.query, request.documents)
    return Ranking(scores=tuple(map(float, found.scores)), prompt_tokens=found.prompt_tokens)
