"""The Sanic application: its routes and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Coroutine
from typing import Any

from sanic import Sanic
from sanic.config import Config
from sanic.handlers import ErrorHandler
from sanic.request import Request
from sanic.response import BaseHTTPResponse

from jarvis_core.http import health, metrics, models, rerank, tokens
from jarvis_core.http.anthropic import answers as anthropic
from jarvis_core.http.anthropic import messages
from jarvis_core.http.auth import Keyring, Scope
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front, Route
from jarvis_core.http.openai import chat, completions, embeddings, render
from jarvis_core.http.openai.responses import endpoints as responses
from jarvis_core.http.openai.responses.store import ResponseStore
from jarvis_core.http.responses import Response
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.settings import ServerSettings

ROUTES = (
    Route(method="POST", path="/v1/chat/completions", endpoint=chat.create),
    Route(method="POST", path="/v1/chat/completions/render", endpoint=render.create),
    Route(method="POST", path="/v1/completions", endpoint=completions.create),
    Route(method="POST", path="/v1/embeddings", endpoint=embeddings.create),
    Route(method="POST", path="/v1/rerank", endpoint=rerank.create),
    Route(method="POST", path="/tokenize", endpoint=tokens.tokenize),
    Route(method="POST", path="/detokenize", endpoint=tokens.detokenize),
    Route(method="POST", path="/v1/responses", endpoint=responses.create),
    Route(method="GET", path="/v1/responses/<response_id>", endpoint=responses.retrieve),
    Route(method="DELETE", path="/v1/responses/<response_id>", endpoint=responses.delete),
    Route(
        method="GET",
        path="/v1/responses/<response_id>/input_items",
        endpoint=responses.input_items,
    ),
    Route(method="POST", path="/v1/responses/<response_id>/cancel", endpoint=responses.cancel),
    Route(
        method="POST",
        path="/v1/messages",
        endpoint=messages.create,
        error_body=anthropic.error_body,
    ),
    Route(
        method="POST",
        path="/v1/messages/count_tokens",
        endpoint=messages.count_tokens,
        error_body=anthropic.error_body,
    ),
    Route(method="GET", path="/v1/models", endpoint=models.listing),
    Route(method="GET", path="/v1/models/<name:path>", endpoint=models.retrieve),
    Route(method="POST", path="/v1/models/<name:path>", endpoint=models.change, scope=Scope.ADMIN),
    Route(
        method="GET",
        path="/health/live",
        endpoint=health.live,
        scope=Scope.OPEN,
        while_draining=True,
    ),
    Route(
        method="GET",
        path="/health/ready",
        endpoint=health.ready,
        scope=Scope.OPEN,
        while_draining=True,
    ),
    Route(method="GET", path="/health", endpoint=health.report, while_draining=True),
    Route(method="GET", path="/metrics", endpoint=health.metrics, while_draining=True),
)

_serial = itertools.count()


def create_app(settings: ServerSettings, catalogue: Catalogue) -> Sanic[Any, Any]:
    """The application, ready to be served by ``jarvis_core.http.serve``.

    Args:
        settings: The server's settings.
        catalogue: The models to serve; starting and closing it is the caller's.
    """
    app = _Application(
        f"jarvis-{next(_serial)}",
        config=_config(),
        error_handler=_ErrorAnswers(),
        configure_logging=False,
    )
    front = Front(
        settings=settings,
        catalogue=catalogue,
        metrics=metrics.Metrics(catalogue),
        keyring=Keyring(settings),
        responses=ResponseStore.of(settings),
    )
    app.ctx.front = front
    for route in ROUTES:
        app.add_route(
            _handler(front, route),
            route.path,
            methods=("GET", "HEAD") if route.method == "GET" else (route.method,),
            name=f"{route.method} {route.path}",
            stream=True,  # the endpoint reads the body itself, after the key was checked
        )
    return app


def _handler(front: Front, route: Route) -> Any:
    # Neither is a coroutine function: each of their frames would be resumed for every chunk.
    def handle(request: Request, **path: str) -> Awaitable[BaseHTTPResponse | None]:
        def endpoint(exchange: Exchange) -> Awaitable[BaseHTTPResponse | None]:
            return route.endpoint(front, exchange, **path)

        return front.answer(request, route, endpoint)

    return handle


class _Application(Sanic[Any, Any]):
    """Sanic without its signals for every step of a request: we have no listener for them."""

    def dispatch(self, event: str, **context: Any) -> Coroutine[Any, Any, Any]:
        if event.startswith(("http.", "server.exception.")):
            return _nothing()
        return super().dispatch(event, **context)


async def _nothing() -> None:
    """What a signal without listeners does."""


class _ErrorAnswers(ErrorHandler):
    """Answers what fails before or outside of a route: a path, a method, the request's head."""

    def response(self, request: Request, exception: Exception) -> Any:
        async def endpoint(exchange: Exchange) -> BaseHTTPResponse | None:
            raise exception

        if not isinstance(exception, Exception):  # the client left, or the server ends
            return Response(status=500)
        return request.app.ctx.front.answer(request, None, endpoint)


def _config() -> Config:
    config = Config(env_prefix="")
    config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "MOTD": False,
            "TOUCHUP": False,  # it rewrites classes of the whole process
            "GRACEFUL_TCP_CLOSE_TIMEOUT": 2.0,
            # These are Connection's and body's business.
            "KEEP_ALIVE_TIMEOUT": 1 << 30,
            "REQUEST_MAX_SIZE": 1 << 62,
            "REQUEST_TIMEOUT": 1 << 30,
            "RESPONSE_TIMEOUT": 1 << 30,
        }
    )
    return config
