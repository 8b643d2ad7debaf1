"""POST /v1/chat/completions: streamed and whole answers from the same deltas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from time import perf_counter

from attrs import frozen

from jarvis_core.chat import Fold
from jarvis_core.errors import DeadlineExceeded, EngineError
from jarvis_core.http import sse
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.metrics import Distribution
from jarvis_core.http.openai.answers import Chunks, Head, whole
from jarvis_core.http.openai.parameter_table import IGNORED_HEADER
from jarvis_core.http.openai.request import ChatCall, chat_request, read_call
from jarvis_core.http.responses import Response, json
from jarvis_core.models.lease import LeasedStream
from jarvis_core.structs import ChatRequest, Delta


async def create(front: Front, exchange: Exchange) -> Response | None:
    """Answer a chat."""
    settings = front.settings
    call = read_call(await read_json(exchange.request, settings), settings)
    name = call.body.model
    exchange.model = front.catalogue.status(name).name
    async with (
        _deadline(settings.request_timeout) as deadline,
        front.catalogue.lease(name) as lease,
    ):
        model = lease.info
        exchange.engine = model.engine
        request = chat_request(call, model)
        stream = await lease.stream(request, request_id=exchange.id)
        async with aclosing(stream):
            exchange.accepted_at = perf_counter()
            exchange.prompt_tokens = stream.prompt_tokens
            chat = _Chat(
                exchange=exchange,
                call=call,
                request=request,
                head=Head.of(model),
                stream=stream,
                gaps=front.metrics.inter_token.of(model.name, model.engine),
            )
            if not call.body.stream:
                return await chat.answer_whole()
            deadline.reschedule(None)  # a stream may go on for as long as it is read
            await chat.answer_streamed(front)
            return None


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    try:
        async with asyncio.timeout(seconds) as timeout:
            yield timeout
    except TimeoutError:
        raise DeadlineExceeded(f"the answer took longer than {seconds:g} seconds") from None


@frozen(kw_only=True)
class _Chat:
    """A chat that the engine has accepted.

    Attributes:
        exchange: The HTTP side.
        call: What the client sent.
        request: What the engine was sent.
        head: What all of the answer's parts have in common.
        stream: The answer.
        gaps: Where the times between tokens are counted.
    """

    exchange: Exchange
    call: ChatCall
    request: ChatRequest
    head: Head
    stream: LeasedStream
    gaps: Distribution

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this answer alone."""
        return {IGNORED_HEADER: self.call.ignored} if self.call.ignored else {}

    async def answer_whole(self) -> Response:
        """One JSON body."""
        fold, previous = Fold(), 0.0
        async for batch in self.stream:
            now = perf_counter()
            self._note(batch, now, previous)
            previous = now
            for delta in batch:
                fold.add(delta)
        body = whole(self.head, fold.completion(), logprobs=self.request.logprobs is not None)
        return json(body, headers=self.headers)

    async def answer_streamed(self, front: Front) -> None:
        """Chunks, as they come."""
        exchange, previous = self.exchange, 0.0
        chunks = Chunks(
            self.head,
            n=self.request.n,
            logprobs=self.request.logprobs is not None,
            include_usage=self.call.include_usage,
        )

        def encode(batch: Sequence[Delta], now: float) -> bytes:
            nonlocal previous
            self._note(batch, now, previous)
            previous = now
            return chunks.batch(batch)

        def last() -> bytes:
            if exchange.usage is None:
                raise EngineError("the answer ended without a count of its tokens")
            return (chunks.usage(exchange.usage) if self.call.include_usage else b"") + sse.DONE

        await sse.stream(
            exchange,
            front.settings,
            headers={**front.headers(exchange), **self.headers},
            first=chunks.opening(),
            batches=self.stream,
            encode=encode,
            last=last,
        )

    def _note(self, batch: Sequence[Delta], now: float, previous: float) -> None:
        """Count a batch that came now, after one that came at ``previous``."""
        exchange = self.exchange
        if exchange.first_token_at is None:
            exchange.first_token_at = now
        else:
            self.gaps.observe((now - previous) / len(batch), len(batch))
        if (usage := batch[-1].usage) is not None:
            exchange.usage = usage
            exchange.finish_reason = batch[-1].finish_reason or ""
