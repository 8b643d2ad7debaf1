"""What every endpoint can reach, and the way of a request through the front door."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager

import structlog
from attrs import field, frozen
from sanic.request import Request
from sanic.response import BaseHTTPResponse

from jarvis_core.errors import JarvisError, ModelUnavailable
from jarvis_core.http import cors, errors
from jarvis_core.http.auth import Keyring, Scope
from jarvis_core.http.body import discard
from jarvis_core.http.exchange import Exchange, Exchanges, close_after
from jarvis_core.http.metrics import Metrics
from jarvis_core.http.openai.parameter_table import ParameterTable
from jarvis_core.http.openai.responses.store import ResponseStore
from jarvis_core.http.quota import Quotas
from jarvis_core.http.responses import JSON
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.lease import Lease
from jarvis_core.models.turns import NOBODY, Claim
from jarvis_core.settings import ServerSettings

_log = structlog.stdlib.get_logger("jarvis.request")

_PATH_PARAMETER = re.compile(r"<(\w+)(?::\w+)?>")

UNKNOWN = "unknown"
"""Route of a request whose path or method is not served."""


@frozen(kw_only=True)
class Front:
    """The front door.

    Attributes:
        settings: Its settings.
        catalogue: The models behind it.
        metrics: What it counts.
        keyring: Who may do what.
        responses: Answers that are kept.
        routes: Every path and method of the API.
        exchanges: What is being answered.
        quotas: What keys have used.
    """

    settings: ServerSettings
    catalogue: Catalogue
    metrics: Metrics
    keyring: Keyring
    responses: ResponseStore
    routes: tuple[Route, ...]
    exchanges: Exchanges = field(factory=Exchanges)
    quotas: Quotas = field(factory=Quotas)

    def lease(self, exchange: Exchange, model: str) -> AbstractAsyncContextManager[Lease]:
        """Hold a model for a request, in the name of its key; see ``Catalogue.lease``."""
        key, claim = exchange.caller.key, NOBODY
        if key is not None:
            claim = Claim(tenant=key.name, priority=key.priority, shared=self.keyring.shared)
        return self.catalogue.lease(model, claim)

    async def answer(
        self,
        request: Request,
        route: Route | None,
        endpoint: Callable[[Exchange], Awaitable[BaseHTTPResponse | None]],
    ) -> BaseHTTPResponse | None:
        """Let one request in, answer it, count it, log it.

        Args:
            request: The request.
            route: Where it goes; None for a path or method that is not served.
            endpoint: Makes the answer; None from it says that it was sent already.
        """
        path = route.path if route else UNKNOWN
        try:
            with self.exchanges.open(request, path) as exchange:
                try:
                    if (preflight := cors.preflight(request, self.settings.cors_origins)) is None:
                        self._admit(exchange, route)
                        with exchange.cuttable(), self._metered(exchange, route):
                            response = await endpoint(exchange)
                            await discard(request, self.settings)
                    else:
                        response = preflight
                except Exception as raised:
                    response = self._failure(exchange, route, raised)
                if response is not None:
                    exchange.status = response.status
                    response.headers.update(self.headers(exchange))
                return response
        finally:
            self._note(exchange)

    def headers(self, exchange: Exchange) -> dict[str, str]:
        """The headers that every answer has."""
        return {
            "x-request-id": exchange.id,
            "request-id": exchange.id,  # as Anthropic's clients read it
            "openai-processing-ms": str(round(exchange.elapsed * 1000)),
            **self.quotas.headers(exchange.caller),
            **cors.headers(exchange.request, self.settings.cors_origins),
        }

    def _admit(self, exchange: Exchange, route: Route | None) -> None:
        request = exchange.request
        needed = route.scope if route else Scope.USER
        if not self.keyring.in_use:  # a page does not know keys
            cors.check(request, self.settings.cors_origins)
        exchange.caller = self.keyring.admit(_authorization(request), needed)
        if self.exchanges.draining:
            close_after(request)
            if route is None or not route.while_draining:
                raise ModelUnavailable("the server is shutting down", retry_after=5)

    @contextmanager
    def _metered(self, exchange: Exchange, route: Route | None) -> Iterator[None]:
        """Count what a request takes against the limits of its key."""
        if route is None or not route.metered:
            yield
            return
        self.quotas.enter(exchange.caller)
        try:
            yield
        finally:
            self.quotas.leave(exchange.caller, tokens=exchange.tokens)

    def _failure(
        self, exchange: Exchange, route: Route | None, raised: Exception
    ) -> BaseHTTPResponse:
        error = errors.from_exception(raised, request_id=exchange.id)
        exchange.failed(error)
        response = errors.response(error, (route or self._nearest(exchange.request)).error_body)
        response.headers.update(errors.allow(raised))
        return response

    def _nearest(self, request: Request) -> Route:
        """The route whose clients have asked for what is not served: one above that, or any."""
        above = [route for route in self.routes if f"{request.path}/".startswith(f"{route.path}/")]
        return max(above, key=lambda route: len(route.path), default=self.routes[0])

    def _note(self, exchange: Exchange) -> None:
        self.metrics.exchange_ended(exchange)
        log = _log.warning if exchange.status >= 500 else _log.info
        log(
            "request",
            id=exchange.id,
            route=f"{_method(exchange.request)} {exchange.route}",
            status=exchange.status,
            outcome=exchange.outcome,
            **_details(exchange),
        )


def _authorization(request: Request) -> str:
    """The header of that name; Anthropic's clients send the key alone in one of their own."""
    sent: str = request.headers.getone("authorization", "")
    if not sent and (key := request.headers.getone("x-api-key", "")):
        return f"Bearer {key}"
    return sent


def _details(exchange: Exchange) -> Mapping[str, object]:
    """What is known beyond status and outcome; never a text that a client wrote."""
    details: dict[str, object] = {"ms": round(exchange.elapsed * 1000, 1)}
    if exchange.error_code:
        details["error"] = exchange.error_code
    if (key := exchange.caller.key) is not None and key.named:
        details["key"] = key.name
    if exchange.model:
        details["model"] = exchange.model
    if exchange.accepted_at is not None:
        details["accepted_ms"] = round((exchange.accepted_at - exchange.started) * 1000, 1)
        details["queue_position"] = exchange.queue_position
        details["queued_ms"] = round(exchange.queued * 1000, 1)
        details["prompt_tokens"] = exchange.prompt_tokens
    if exchange.first_token_at is not None:
        details["first_token_ms"] = round((exchange.first_token_at - exchange.started) * 1000, 1)
    if exchange.usage is not None:
        details["completion_tokens"] = exchange.usage.completion_tokens
        details["cached_tokens"] = exchange.usage.cached_tokens
    return details


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(request: Request) -> str:
    return request.method if request.method in _METHODS else "OTHER"


Endpoint = Callable[..., Awaitable[BaseHTTPResponse | None]]


@frozen(kw_only=True, eq=False)
class Route:
    """One path and method of the API.

    Attributes:
        method: HTTP method.
        path: Template of the path, as Sanic writes it.
        endpoint: Called with the front, the exchange, and the path's parameters.
        scope: What a key must be allowed to do.
        while_draining: Whether it is answered while the server ends.
        error_body: Writes an error as the route's clients expect it.
        body: Shape of the JSON object that it takes.
        parameters: What becomes of each field of that.
        task: What a model must be able to do; empty where every model can.
        media: Types of what it answers, the whole answer's first.
        parts: What its path stands for, each documented by itself.
    """

    method: str
    path: str
    endpoint: Endpoint
    scope: Scope = Scope.USER
    while_draining: bool = False
    error_body: Callable[[JarvisError], bytes] = errors.body
    body: type | None = None
    parameters: ParameterTable | None = None
    task: str = ""
    media: tuple[str, ...] = (JSON,)
    parts: tuple[Route, ...] = ()

    @property
    def metered(self) -> bool:
        """Whether its requests count against the limits of a key."""
        return self.method == "POST" and self.scope is Scope.USER

    @property
    def documented(self) -> tuple[Route, ...]:
        """What is documented of it: its parts, or itself."""
        return self.parts or (self,)

    @property
    def template(self) -> str:
        """Its path as OpenAPI writes it: ``/v1/models/{name}``."""
        return _PATH_PARAMETER.sub(r"{\1}", self.path)
