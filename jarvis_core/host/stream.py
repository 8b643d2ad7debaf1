"""One answer on its way from an engine host: what came and was not yet taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from jarvis_core.errors import JarvisError
from jarvis_core.host.calls import StreamRequest
from jarvis_core.host.protocol import CREDIT, Frame, cost
from jarvis_core.structs import Delta


class HostStream:
    """The answer to one request: batches of deltas, as they come.

    Args:
        number: The request's number in frames.
        request: What was asked.
        send: Sends a frame to the host.
        forget: Called with the number when frames of this stream are no longer wanted.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        request: What was asked.
    """

    def __init__(
        self,
        number: int,
        request: StreamRequest,
        *,
        send: Callable[[Frame], None],
        forget: Callable[[int], object],
    ) -> None:
        self.prompt_tokens = 0
        self.request = request
        self._number = number
        self._send = send
        self._forget = forget
        self._deltas: list[Delta] = []
        self._taken = 0
        self._error: JarvisError | None = None
        self._ended = False
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._accepted = False

    async def wait_accepted(self) -> None:
        """Wait until the engine has accepted the request.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        while not self._accepted:
            if self._error is not None:
                raise self._error
            await self._change()

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        while not self._deltas:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._change()
        batch, self._deltas = self._deltas, []
        self._taken += sum(map(cost, batch))
        if self._taken >= CREDIT // 2 and not self._ended:
            self._send(["credit", self._number, self._taken])
            self._taken = 0
        return batch

    def widen(self, places: int) -> None:
        """Let so many more sequences be computed at the same time."""
        if not self._ended and self._error is None:
            self._send(["widen", self._number, places])

    async def aclose(self) -> None:
        """Abort the request if it has not ended."""
        self._forget(self._number)
        if not self._ended and self._error is None:
            self._ended = True
            self._send(["cancel", self._number])

    # What the host calls, from its channel.

    def accept(self, prompt_tokens: int) -> None:
        """The engine has taken the request."""
        self.prompt_tokens = prompt_tokens
        self._accepted = True
        self._notify()

    def put(self, delta: Delta) -> None:
        """A delta has come."""
        self._deltas.append(delta)
        if delta.usage is not None:
            self._ended = self._complete = True
        self._notify()

    def fail(self, error: JarvisError) -> None:
        """The stream has ended with an error; what came before is still delivered."""
        if not self._ended:
            self._error = error
            self._notify()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self) -> None:
        """Wait until something has come. A stream has one reader, so one future does."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def complete(self) -> bool:
        """Whether the answer came whole."""
        return self._complete
