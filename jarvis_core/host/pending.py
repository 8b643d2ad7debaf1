"""The requests that an engine host has yet to answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen

from jarvis_core.errors import JarvisError, from_wire
from jarvis_core.host.calls import KINDS, CallRequest, HostRequest, StreamRequest
from jarvis_core.host.protocol import Frame, converter, unpack_delta
from jarvis_core.host.stream import HostStream

Result = TypeVar("Result")


@frozen(kw_only=True)
class _Call:
    request: CallRequest
    result: asyncio.Future[Any]


class Pending:
    """Sends requests to a host, and hands what comes back to who asked.

    Args:
        send: Sends a frame to the host.
    """

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._streams: dict[int, HostStream] = {}
        self._calls: dict[int, _Call] = {}

    def __len__(self) -> int:
        return len(self._streams) + len(self._calls)

    async def stream(
        self, request: StreamRequest, request_id: str, *, places: int | None = None
    ) -> HostStream:
        """Send a request whose answer streams; returns when the engine has accepted it.

        Args:
            request: The request.
            request_id: For logs.
            places: Sequences that may be computed at the same time; None is all.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        number = next(self._numbers)
        stream = self._streams[number] = HostStream(
            number, request, send=self._send, forget=lambda number: self._streams.pop(number, None)
        )
        self._ask(number, request, request_id, places)
        try:
            await stream.wait_accepted()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def call(self, request: CallRequest, result: type[Result], request_id: str) -> Result:
        """Send a request and wait for its one result; cancelling it ends its work.

        Raises:
            RequestError: The request is refused.
            EngineError: The host or its engine failed.
        """
        number = next(self._numbers)
        call = self._calls[number] = _Call(
            request=request, result=asyncio.get_running_loop().create_future()
        )
        self._ask(number, request, request_id)
        try:
            return converter.structure(await call.result, result)
        except asyncio.CancelledError:
            self._send(["cancel", number])
            raise
        finally:
            self._calls.pop(number, None)

    def _ask(
        self, number: int, request: HostRequest, request_id: str, places: int | None = None
    ) -> None:
        kind = KINDS[type(request)]
        self._send(["request", number, request_id, kind, converter.unstructure(request), places])

    # What comes from the host.

    def on_frame(self, frame: Frame) -> bool:
        """Take a frame that answers a request; False for any other."""
        match frame:
            case ["deltas", packed]:
                for item in packed:
                    stream = self._streams.get(item[0])
                    if stream is not None:
                        stream.put(unpack_delta(item))
            case ["accepted", number, prompt_tokens]:
                if number in self._streams:
                    self._streams[number].accept(prompt_tokens)
            case ["result", number, result]:
                if number in self._calls:
                    _settle(self._calls[number].result, result)
            case ["error", number, error]:
                self._fail(number, from_wire(error))
            case _:
                return False
        return True

    def _fail(self, number: int, error: JarvisError) -> None:
        if number in self._streams:
            self._streams.pop(number).fail(error)
        elif number in self._calls:
            _settle(self._calls[number].result, error)

    def lost(self, make_error: Callable[[], JarvisError]) -> tuple[HostRequest, ...]:
        """Fail everything; the requests that were not answered."""
        held: list[HostRequest] = [s.request for s in self._streams.values() if not s.complete]
        held += [c.request for c in self._calls.values() if not c.result.done()]
        for number in (*self._streams, *self._calls):
            self._fail(number, make_error())
        return tuple(held)

    def cut(self, make_error: Callable[[], JarvisError]) -> None:
        """Fail everything, and end its work."""
        for number in (*self._streams, *self._calls):
            self._fail(number, make_error())
            self._send(["cancel", number])


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, JarvisError):
        future.set_exception(result)
    else:
        future.set_result(result)
