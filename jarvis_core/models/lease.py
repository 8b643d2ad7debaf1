"""A request's hold on a model, and the answer that it streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from jarvis_core.errors import RequestError
from jarvis_core.host.stream import HostStream
from jarvis_core.models.model import Model
from jarvis_core.models.status import ModelStatus
from jarvis_core.models.suspects import Ticket
from jarvis_core.structs import ChatRequest, Delta, ModelInfo


class Lease:
    """A request's hold on a loaded model: while it is out, the model is not unloaded.

    Raises:
        QueueFull: Too many requests wait already.

    Attributes:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        model.enter()
        self.model = model
        self._waiting = True
        self._released = False

    @property
    def status(self) -> ModelStatus:
        """The model now."""
        return self.model.status()

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        info = self.model.host.info
        assert info is not None
        return info

    @property
    def chat_format(self) -> str:
        """Name of the chat format."""
        return self.model.host.chat_format or ""

    async def chat(self, request: ChatRequest, *, request_id: str) -> ChatStream:
        """Send a chat; returns when the engine has accepted it.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        suspects = self.model.suspects
        ticket = await suspects.admit(request)
        try:
            stream = await self.model.host.chat(request, request_id)
        except BaseException as error:
            suspects.leave(ticket, survived=isinstance(error, RequestError))
            raise
        return ChatStream(stream, self, ticket)

    def began(self) -> None:
        """The first delta has come: the request waits no longer."""
        if self._waiting and not self._released:
            self._waiting = False
            self.model.begin_answer()

    def release(self) -> None:
        """Give the model back; further calls do nothing."""
        if not self._released:
            self._released = True
            self.model.leave(waiting=self._waiting)


class ChatStream:
    """Batches of deltas of one chat, as they come.

    The last delta of each index has a ``finish_reason``, the very last has the ``usage``.
    """

    def __init__(self, stream: HostStream, lease: Lease, ticket: Ticket) -> None:
        self._stream = stream
        self._lease = lease
        self._ticket: Ticket | None = ticket

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._stream.prompt_tokens

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        batch = await self._stream.__anext__()
        self._lease.began()
        return batch

    async def aclose(self) -> None:
        """Abort the chat if it has not ended; further calls do nothing."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._lease.model.suspects.leave(ticket, survived=self._stream.complete)
            await self._stream.aclose()
