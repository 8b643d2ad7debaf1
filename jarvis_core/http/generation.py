"""The way of every request that generates text: lease a model, ask it, write what comes.

Chats, completions and whatever else generates differ in what they read and write, not in this: a
whole answer and a stream are made of the same deltas, fail alike, are timed and counted alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Protocol

from attrs import field, frozen

from jarvis_core.chat import Fold
from jarvis_core.errors import EngineError, JarvisError
from jarvis_core.host.calls import StreamRequest
from jarvis_core.http import sse
from jarvis_core.http.asking import asking
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.metrics import Distribution
from jarvis_core.http.responses import Response, json
from jarvis_core.models.lease import LeasedStream
from jarvis_core.structs import Completion, Delta, ModelInfo, Usage


class Writer(Protocol):
    """Writes one answer as an endpoint's clients expect it, either whole or as events."""

    def whole(self, completion: Completion) -> bytes:
        """The body of an answer that is not streamed: JSON."""
        ...

    def opening(self) -> bytes:
        """The events that come with the headers, before any text."""
        ...

    def batch(self, deltas: Sequence[Delta]) -> bytes:
        """The events of some deltas, possibly none."""
        ...

    def closing(self, usage: Usage) -> bytes:
        """The events at the end of a stream that came whole."""
        ...

    def failure(self, error: JarvisError) -> bytes:
        """The events at the end of a stream that failed."""
        ...


@frozen(kw_only=True)
class Asked:
    """What an endpoint asks of a model.

    Attributes:
        request: What goes to the engine host.
        writer: Writes its answer.
        headers: Headers of this answer alone.
        fold: Makes what adds the deltas of a whole answer up.
        kept: Takes the end of the answer and returns it once what the writer gave away to be kept
            is kept; the end may then say otherwise. None where nothing is kept.
    """

    request: StreamRequest
    writer: Writer
    headers: Mapping[str, str] = field(factory=dict)
    fold: Callable[[], Fold] = Fold
    kept: Callable[[bytes], Awaitable[bytes]] | None = None


async def answer(
    front: Front,
    exchange: Exchange,
    *,
    model: str,
    streamed: bool,
    ask: Callable[[ModelInfo], Asked],
) -> Response | None:
    """Answer with generated text: a response, or None once a stream was sent.

    Args:
        front: The front door.
        exchange: The request.
        model: The name that the client asked for.
        streamed: Whether events are wanted.
        ask: Makes the engine's request for the loaded model; what it raises is the answer.
    """
    async with asking(front, exchange, model) as (lease, timeout):
        info = lease.info
        asked = ask(info)
        stream = await lease.stream(asked.request, request_id=exchange.id)
        async with aclosing(stream):
            exchange.accepted_at = perf_counter()
            exchange.prompt_tokens = stream.prompt_tokens
            accepted = _Accepted(
                exchange=exchange,
                asked=asked,
                stream=stream,
                gaps=front.metrics.inter_token.of(exchange.model, info.engine),
            )
            if not streamed:
                return await accepted.answer_whole()
            timeout.reschedule(None)  # a stream may go on for as long as it is read
            await accepted.answer_streamed(front)
            return None


@frozen(kw_only=True)
class _Accepted:
    """A request that the engine has accepted.

    Attributes:
        exchange: The HTTP side.
        asked: What was asked, and how to write the answer.
        stream: The answer.
        gaps: Where the times between tokens are counted.
    """

    exchange: Exchange
    asked: Asked
    stream: LeasedStream
    gaps: Distribution

    async def answer_whole(self) -> Response:
        """One JSON body."""
        fold, previous = self.asked.fold(), 0.0
        async for batch in self.stream:
            now = perf_counter()
            self._note(batch, now, previous)
            previous = now
            for delta in batch:
                fold.add(delta)
        body = await self._settle(self.asked.writer.whole(fold.completion()))
        return json(body, headers=self.asked.headers)

    async def answer_streamed(self, front: Front) -> None:
        """Events, as they come."""
        exchange, writer, previous = self.exchange, self.asked.writer, 0.0

        def encode(batch: Sequence[Delta], now: float) -> bytes:
            nonlocal previous
            self._note(batch, now, previous)
            previous = now
            return writer.batch(batch)

        def last() -> bytes:
            if exchange.usage is None:
                raise EngineError("the answer ended without a count of its tokens")
            return writer.closing(exchange.usage)

        await sse.stream(
            exchange,
            front.settings,
            headers={**front.headers(exchange), **self.asked.headers},
            first=writer.opening(),
            batches=self.stream,
            encode=encode,
            last=last,
            failure=writer.failure,
            settle=self._settle,
        )

    async def _settle(self, end: bytes) -> bytes:
        """Wait, with nothing held at the engine, until whoever has the end finds what is kept."""
        if self.asked.kept is None:
            return end
        await self.stream.aclose()
        return await self.asked.kept(end)

    def _note(self, batch: Sequence[Delta], now: float, previous: float) -> None:
        """Count a batch that came now, after one that came at ``previous``."""
        exchange = self.exchange
        exchange.generated += len(batch)
        if exchange.first_token_at is None:
            exchange.first_token_at = now
        else:
            self.gaps.observe((now - previous) / len(batch), len(batch))
        if (usage := batch[-1].usage) is not None:
            exchange.usage = usage
            exchange.finish_reason = batch[-1].finish_reason or ""
