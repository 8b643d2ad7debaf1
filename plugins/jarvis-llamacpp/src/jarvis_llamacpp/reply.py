"""The way of outputs from the engine thread to the coroutine that waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from jarvis_core import EngineOutput, JarvisError


class Reply:
    """Outputs of one request, in order. It lives on the loop of the request.

    Attributes:
        loop: That loop.
        begun: Whether something was sent to it; belongs to the engine thread.
        finished: Whether the last output or an error was taken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin an empty reply."""
        self.loop = loop
        self.begun = False
        self.finished = False
        self._outputs: deque[EngineOutput] = deque()
        self._error: JarvisError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, output: EngineOutput | JarvisError) -> None:
        """Add an output, or the error that ends the reply."""
        if isinstance(output, JarvisError):
            self._error = output
        elif self._outputs and _go_on(self._outputs[-1], output):
            # Nobody took the last one: a client that reads slowly costs text, not objects.
            self._outputs[-1] = _join(self._outputs[-1], output)
        else:
            self._outputs.append(output)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> EngineOutput:
        """The next output.

        Raises:
            JarvisError: The request failed.
        """
        while not self._outputs:
            if self._error is not None:
                self.finished = True
                raise self._error
            self._waiter = self.loop.create_future()
            await self._waiter
        output = self._outputs.popleft()
        self.finished = output.usage is not None
        return output


Event = tuple[Reply, EngineOutput | JarvisError]
"""Something new for one reply."""


def deliver(events: Iterable[Event]) -> None:
    """Hand a step's outputs to their replies."""
    for reply, output in events:
        reply.put(output)


def _go_on(first: EngineOutput, second: EngineOutput) -> bool:
    return first.index == second.index and first.finish_reason is None


def _join(first: EngineOutput, second: EngineOutput) -> EngineOutput:
    return EngineOutput(
        index=first.index,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        prompt_logprobs=first.prompt_logprobs,
        finish_reason=second.finish_reason,
        usage=second.usage,
    )
