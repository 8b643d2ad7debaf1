"""The Sanic application: what it is configured to leave to us."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Coroutine
from typing import Any

from sanic import Sanic
from sanic.config import Config
from sanic.handlers import ErrorHandler
from sanic.request import Request
from sanic.response import BaseHTTPResponse

from jarvis_core.http import metrics
from jarvis_core.http.auth import Keyring
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front, Route
from jarvis_core.http.openai.responses.store import ResponseStore
from jarvis_core.http.responses import Response
from jarvis_core.http.routes import ROUTES
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.settings import ServerSettings

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
        routes=ROUTES,
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
