"""One request and its answer, from the first header to the log line."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

from attrs import define, field
from sanic.http import Http
from sanic.request import Request

from jarvis_core.errors import DeadlineExceeded, JarvisError
from jarvis_core.http.auth import ANYBODY, Caller
from jarvis_core.structs import Usage

Outcome = Literal["ok", "failed", "aborted", "expired"]

CLIENT_LEFT = 499
"""The status that the log shows for a client that did not wait for its answer."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


@define(kw_only=True, eq=False)
class Exchange:
    """What is known about one request while it is answered.

    Attributes:
        id: The client's ``x-request-id`` if it is sane, else one made here.
        request: Sanic's request.
        route: Template of its path, never the path itself: that is the client's text.
        caller: Who asks.
        started: Seconds on the performance counter when its headers had come.
        status: Status code of the answer, 0 until there is one.
        outcome: How it ended.
        error_code: ``code`` of the error that ended it, for the log.
        model: Configured name of the model that it uses, empty until that is known.
        engine: Name of that model's engine.
        finish_reason: Of the answer that ended last.
        prompt_tokens: Tokens of the prompt, once the engine accepted it.
        generated: Pieces of the answer that have come, each of about one token.
        usage: Tokens counted, once the answer is whole.
        queue_position: Requests of the same key that waited for the model when it came; of
            everybody where there are no keys.
        queued: Seconds that it waited for its turn.
        accepted_at: When the engine accepted it.
        first_token_at: When the first text came.
        task: What answers it.
        cut_by: Why the server ends it before its time.
    """

    id: str
    request: Request
    route: str
    caller: Caller = ANYBODY
    started: float = field(factory=perf_counter)
    status: int = 0
    outcome: Outcome = "ok"
    error_code: str | None = None
    model: str = ""
    engine: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    generated: int = 0
    usage: Usage | None = None
    queue_position: int = 0
    queued: float = 0.0
    accepted_at: float | None = None
    first_token_at: float | None = None
    task: asyncio.Task[None] | None = None
    cut_by: JarvisError | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the headers had come."""
        return perf_counter() - self.started

    @property
    def tokens(self) -> int:
        """Tokens that it took so far."""
        if self.usage is not None:
            return self.usage.prompt_tokens + self.usage.completion_tokens
        return self.prompt_tokens + self.generated

    def failed(self, error: JarvisError) -> None:
        """Note the error that ends it."""
        expired = isinstance(error, DeadlineExceeded) or error is self.cut_by
        self.outcome = "expired" if expired else "failed"
        self.error_code = error.code
        if not self.status:
            self.status = error.status_code

    def cut(self, error: JarvisError) -> None:
        """End it now: ``error`` is raised where ``cuttable`` waits."""
        if self.cut_by is None and self.task is not None:
            self.cut_by = error
            self.task.cancel()

    @contextmanager
    def cuttable(self) -> Iterator[None]:
        """Turn the cancellation that ``cut`` sends into its error; a client's leaving passes."""
        try:
            yield
        except asyncio.CancelledError:
            if self.cut_by is None:
                raise
            assert self.task is not None
            self.task.uncancel()
            raise self.cut_by from None


class Exchanges:
    """All exchanges that are being answered.

    Attributes:
        draining: The server is ending: what runs may finish, nothing new begins.
    """

    def __init__(self) -> None:
        self.draining = False
        self._live: set[Exchange] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __len__(self) -> int:
        return len(self._live)

    @contextmanager
    def open(self, request: Request, route: str) -> Iterator[Exchange]:
        """An exchange that counts as running inside the block."""
        exchange = Exchange(
            id=request_id(request), request=request, route=route, task=asyncio.current_task()
        )
        self._live.add(exchange)
        self._none_left.clear()
        try:
            yield exchange
        except asyncio.CancelledError:
            exchange.outcome = "aborted"
            exchange.status = exchange.status or CLIENT_LEFT
            raise
        finally:
            self._live.discard(exchange)
            if not self._live:
                self._none_left.set()

    def drain(self) -> None:
        """Begin nothing new, and close each connection after the answer that it waits for."""
        self.draining = True
        for exchange in self._live:
            close_after(exchange.request)

    async def none_left(self) -> None:
        """Return when nothing is being answered."""
        await self._none_left.wait()

    def cut_all(self, error: JarvisError) -> None:
        """End everything that is being answered."""
        for exchange in tuple(self._live):
            exchange.cut(error)


def request_id(request: Request) -> str:
    """The client's own id where it is short and plain, else a new one."""
    sent = request.headers.getone("x-request-id", "")
    return sent if _SANE_ID.match(sent) else f"req-{uuid.uuid4().hex}"


def close_after(request: Request) -> None:
    """Do not keep the connection alive after this request's answer."""
    if isinstance(request.stream, Http):
        request.stream.keep_alive = False
