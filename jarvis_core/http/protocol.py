"""One client's connection: Sanic's HTTP/1.1 protocol with deadlines, a cap and direct writes.

Sanic's own timers measure idleness, so that a byte now and then holds a connection for ever, and
its response timer cuts answers that are silent for long. Here each phase of a request has a
deadline of its own, and none while it is being answered: that is the answer's business, but
for a client that does not read.
"""

# Sanic's protocol classes have no annotations.
# mypy: disable-error-code=no-untyped-call

from __future__ import annotations

from time import perf_counter
from typing import Any, cast

from sanic.exceptions import RequestCancelled, RequestTimeout
from sanic.http import Http, Stage
from sanic.request import Request
from sanic.server.protocols.http_protocol import HttpProtocol

from jarvis_core.errors import QueueFull
from jarvis_core.http import errors
from jarvis_core.settings import ServerSettings

KEEP_ALIVE = 75.0
"""Seconds that an idle connection is kept."""

LINGER = 2.0
"""Seconds in which the rest of a refused body is taken, so that the client can read its answer."""

PIPELINE_BYTES = 32 * 1024
"""Bytes that a client may send ahead while it waits for an answer."""


class _Http(Http):
    """Counts the requests of its connection.

    Attributes:
        serial: 1 while the first request is awaited or answered.
    """

    __slots__ = ("serial",)

    def __init__(self, protocol: Connection) -> None:
        super().__init__(protocol)
        self.serial = 0
        self.request_body = None

    def init_for_request(self) -> None:
        super().init_for_request()
        self.serial += 1


class Connection(HttpProtocol):
    """A client's connection.

    Attributes:
        unread_since: Seconds on the performance counter since when the client reads less than is
            written; None while it keeps up.
    """

    __slots__ = (
        "_interval",
        "_limits",
        "_phase",
        "_phase_began",
        "_refused",
        "unread_since",
    )

    HTTP_CLASS = _Http

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unread_since: float | None = None
        self._limits: ServerSettings = self.app.ctx.front.settings
        self._refused = False
        self._phase: tuple[int, Stage, bool] | None = None
        self._phase_began = 0.0
        self._interval = min(2.0, self._limits.header_timeout / 4, self._limits.write_timeout / 4)

    # -- opening and closing ---------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or refuse it if there are too many that are in use."""
        if len(self.connections) >= self._limits.max_connections and not self._close_one_idle():
            self._refused = True
            transport.write(errors.raw(QueueFull("too many connections are open")))
            transport.close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel whatever still answers."""
        if not self._refused:
            super().connection_lost(exc)

    def _close_one_idle(self) -> bool:
        return any(connection.close_if_idle() for connection in tuple(self.connections))

    # -- reading ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Buffer what comes, but never so much behind a request that its end goes unseen.

        A full buffer pauses reading, and a paused connection does not notice that the client
        left. So what a client sends ahead beyond a few requests is dropped, with the connection
        after the answer.
        """
        if self._refused:
            return
        http = self.http
        if (
            http is not None
            and http.stage in (Stage.HANDLER, Stage.RESPONSE)
            and not http.request_body
            and len(self.recv_buffer) + len(data) > PIPELINE_BYTES
        ):
            http.keep_alive = False
            return
        super().data_received(data)

    def body_read(self) -> None:
        """The request is complete: go on watching for the client's leaving."""
        if len(self.recv_buffer) > PIPELINE_BYTES:
            self.recv_buffer.clear()
            self.http.keep_alive = False
        if self.transport is not None:
            self.transport.resume_reading()

    def check_timeouts(self) -> None:
        """End what takes too long. Runs now and then, so it may last a little more."""
        http, task = self.http, self._task
        if http is None or task is None:
            return
        now = perf_counter()
        if self.unread_since is not None and now - self.unread_since >= self._limits.write_timeout:
            self.abort()  # the task is cancelled, which aborts what it answers
            return
        phase = (http.serial, http.stage, bool(http.request_body))
        if phase != self._phase:
            self._phase, self._phase_began = phase, now
        limit = self._phase_limit(*phase)
        left = self._interval if limit is None else self._phase_began + limit - now
        if left > 0:
            self._callback_check_timeouts = self.loop.call_later(
                min(left, self._interval), self.check_timeouts
            )
            return
        if http.stage is Stage.REQUEST:
            http.exception = RequestTimeout()
        task.cancel()

    def _phase_limit(self, serial: int, stage: Stage, body_unread: bool) -> float | None:
        if stage is Stage.REQUEST:
            return self._limits.header_timeout
        if stage is Stage.IDLE:
            if body_unread:
                return LINGER
            return self._limits.header_timeout if serial == 1 else KEEP_ALIVE
        return LINGER if stage is Stage.FAILED else None

    # -- writing ---------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.unread_since = perf_counter()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.unread_since = None
        super().resume_writing()

    async def send(self, data: bytes) -> None:
        """Write, after what was written before has gone."""
        if self.unread_since is not None:
            await self._can_write.wait()
        if self.transport is None or self.transport.is_closing():
            raise RequestCancelled
        self.transport.write(data)

    def write_chunk(self, data: bytes) -> None:
        """Write one chunk of a chunked body at once, without the way through Sanic's layers."""
        transport = self.transport
        if (
            transport is not None and not transport.is_closing()
        ):  # else a cancellation is on its way
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def written(self) -> None:
        """Return when the client keeps up."""
        await self._can_write.wait()


def connection_of(request: Request) -> Connection:
    """The connection that a request came on."""
    assert isinstance(request.stream, Http)
    return cast(Connection, request.stream.protocol)
