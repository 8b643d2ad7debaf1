"""A request's hold on a model, and the answer that it streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from time import perf_counter

from attrs import evolve

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.host.calls import COMPUTED, TASKS, CallRequest, StreamRequest, check_task
from jarvis_core.host.pending import Result
from jarvis_core.host.stream import HostStream
from jarvis_core.models.model import Model
from jarvis_core.models.status import ModelStatus
from jarvis_core.models.suspects import Ticket
from jarvis_core.models.turns import NOBODY, Claim, Hold, Turn
from jarvis_core.structs import CompletionRequest, Delta, ModelInfo


class Lease:
    """A request's hold on a loaded model: while it is out, the model is not unloaded.

    Raises:
        QueueFull: Too many requests wait already.

    Attributes:
        model: The model.
        adapter: Name of the LoRA adapter that the client asked for.
        claim: Who asks.
        position: Requests of the same key that waited for the model when this one came; of
            everybody where there are no keys.
        queued: Seconds that the request waited here for its turn.
    """

    def __init__(self, model: Model, adapter: str | None = None, claim: Claim = NOBODY) -> None:
        self.position = model.requests.enter(claim)
        self.model = model
        self.adapter = adapter
        self.claim = claim
        self.queued = 0.0
        self._waiting = True

    @property
    def status(self) -> ModelStatus:
        """The model now."""
        return self.model.status()

    @property
    def info(self) -> ModelInfo:
        """The loaded model; an adapter has its own name."""
        info = self.model.host.info
        assert info is not None
        return info if self.adapter is None else evolve(info, name=self.adapter)

    @property
    def chat_format(self) -> str:
        """Name of the chat format."""
        return self.model.host.chat_format or ""

    async def stream(self, request: StreamRequest, *, request_id: str) -> LeasedStream:
        """Send a request whose answer streams; returns when the engine has accepted it.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        check_task(request, self.info)
        request = evolve(request, adapter=self.adapter, cache_salt=self._salt(request))
        suspects = self.model.suspects
        async with AsyncExitStack() as stack:
            turn = await self._turn(
                priority=request.priority,
                sequences=_sequences(request),
                guest=self.info.capabilities.gives_way,
            )
            hold = Hold(self.model.requests.turns, turn)
            stack.callback(hold.close)
            ticket = await suspects.admit(request)
            try:
                stream = await self.model.host.stream(
                    self._ranked(request, turn),
                    request_id,
                    places=turn.places if turn.missing else None,
                )
            except BaseException as error:
                suspects.leave(ticket, survived=isinstance(error, RequestError))
                raise
            if turn.missing:
                widening = asyncio.create_task(self._widen(stream, turn, hold))
                stack.push_async_callback(_end, widening)
            return LeasedStream(stream, self, ticket, hold, stack.pop_all())

    async def _widen(self, stream: HostStream, turn: Turn, hold: Hold) -> None:
        """Give a request that has begun the places that it lacks, as their turns come."""
        while turn.missing:
            turn = await self.model.requests.turns.more(turn)
            stream.widen(turn.places)
            hold.add(turn)

    async def _turn(self, *, priority: int = 0, sequences: int = 1, guest: bool = False) -> Turn:
        """Wait for a turn, which must be given back; see ``Turns.take``."""
        came = perf_counter()
        turns = self.model.requests.turns
        turn = await turns.take(self.claim, priority=priority, sequences=sequences, guest=guest)
        self.queued = perf_counter() - came
        return turn

    def _ranked(self, request: StreamRequest, turn: Turn) -> StreamRequest:
        """The request with the priority that its turn has at the engine, and whom it is for."""
        honoured = self.info.capabilities.parameters
        if "priority" in honoured:
            request = evolve(request, priority=turn.engine_priority(request.priority))
        return evolve(request, share=turn.share if "share" in honoured else None)

    def _salt(self, request: StreamRequest) -> str | None:
        """The request's salt, inside its key's own: prefixes are not shared between keys."""
        honoured = "cache_salt" in self.info.capabilities.parameters
        if self.claim.tenant is None or not honoured:
            return request.cache_salt
        return f"{self.claim.tenant}/{request.cache_salt or ''}"

    async def call(self, request: CallRequest, result: type[Result], *, request_id: str) -> Result:
        """Send a request and wait for its one result; cancelling it ends its work.

        What the model computes waits for its turn; what only its tokenizer does, does not.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        check_task(request, self.info)
        if self.adapter is not None and type(request) in TASKS:
            raise UnsupportedParameter(
                f"adapter {self.adapter!r} only generates; ask its model for this", param="model"
            )
        async with AsyncExitStack() as stack:
            if isinstance(request, COMPUTED):
                # One place: engines compute wide calls beside others.
                stack.callback(self.model.requests.turns.give, await self._turn())
            found = await self._call(request, result, request_id)
        self.began()
        return found

    async def _call(self, request: CallRequest, result: type[Result], request_id: str) -> Result:
        suspects, survived = self.model.suspects, False
        ticket = await suspects.admit(request)
        try:
            found = await self.model.host.call(request, result, request_id)
            survived = True
        except RequestError:
            survived = True
            raise
        finally:
            suspects.leave(ticket, survived=survived)
        return found

    def began(self) -> None:
        """The first delta or the result has come: the request waits no longer."""
        if self._waiting:
            self._waiting = False
            self.model.requests.begin_answer(self.claim)

    def release(self) -> None:
        """Give the model back, once."""
        self.model.requests.leave(self.claim, waiting=self._waiting)


def _sequences(request: StreamRequest) -> int:
    """How many sequences an engine computes for a request."""
    if isinstance(request, CompletionRequest):
        return len(request.prompts) * (request.best_of or request.n)
    return request.n


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


class LeasedStream:
    """Batches of deltas of one answer, as they come.

    The last delta of each index has a ``finish_reason``, the very last has the ``usage``.
    """

    def __init__(
        self,
        stream: HostStream,
        lease: Lease,
        ticket: Ticket,
        hold: Hold,
        stack: AsyncExitStack,
    ) -> None:
        self._stream = stream
        self._lease = lease
        self._ticket: Ticket | None = ticket
        self._hold = hold
        self._stack = stack

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._stream.prompt_tokens

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        batch = await self._stream.__anext__()
        self._lease.began()
        if ended := sum(delta.finish_reason is not None for delta in batch):
            self._hold.ended(ended)
        return batch

    async def aclose(self) -> None:
        """Abort the request if it has not ended; further calls do nothing."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._lease.model.suspects.leave(ticket, survived=self._stream.complete)
            async with self._stack:
                await self._stream.aclose()
