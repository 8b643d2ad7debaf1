"""Serve: bind, listen, load the models, and end in an orderly way.

Sanic runs in its single-process form, on our own event loop: its own runner ends a server by
stopping the loop, and here signals, the order of a drain and the exit code matter.
"""

# Sanic's server object has no annotations.
# mypy: disable-error-code=no-untyped-call

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import signal
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from jarvis_core.errors import (
    ConfigError,
    InsufficientMemory,
    JarvisError,
    ModelUnavailable,
    SettingError,
)
from jarvis_core.http import logs
from jarvis_core.http.open_files import allow_files
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.events import EventKind, ModelEvent
from jarvis_core.models.status import ModelState
from jarvis_core.plugins import Registry
from jarvis_core.settings import ServerSettings, Settings
from jarvis_core.settings.values import DEFAULT, bad_value

if TYPE_CHECKING:  # imported while the engine hosts start
    from sanic import Sanic
    from sanic.server import AsyncioServer

    from jarvis_core.http.front import Front
    from jarvis_core.http.protocol import Connection

_log = structlog.stdlib.get_logger("jarvis.server")

CONFIG_ERROR = 2
"""Exit code where only the operator can help."""

CUT_GRACE = 2.0
"""Seconds in which answers that were cut may still say so to their clients."""

CLOSE_GRACE = 7.0
"""Seconds in which engine hosts may end on their own."""

HURRY_GRACE = 1.0
"""The same after a second signal."""

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel's ``somaxconn`` may say less.

Who comes when so many wait is not refused: the kernel is silent, and the client tries again after a
second.
"""

Announce = Callable[[ModelEvent], None]


def run(settings: Settings, registry: Registry, *, announce: Announce) -> int:
    """Serve until a signal ends it.

    Args:
        settings: Everything that the operator said.
        registry: What is installed, for metrics.
        announce: Told what happens to the server and its models.

    Returns:
        The exit code: 0 after a signal, 2 if no model can be loaded, 128 + the signal's number if a
        second one cut the drain short.

    Raises:
        SettingError: The address cannot be listened on.
    """
    logs.set_up(settings.server)
    if not logs.for_people(settings.server.log_format):
        announce = _and_log(announce)
    allow_files(settings.server.max_connections)
    sock = bind(settings.server, {value.name: value.origin for value in settings.values})
    with sock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Server(settings, registry, sock, announce).serve())


def _and_log(announce: Announce) -> Announce:
    def tell(event: ModelEvent) -> None:
        logs.log_event(event)
        announce(event)

    return tell


def bind(
    settings: ServerSettings, origins: Mapping[str, str] = MappingProxyType({})
) -> socket.socket:
    """A socket that listens on the configured address.

    Args:
        settings: The address.
        origins: Who says so, by name of setting, for the message.

    Raises:
        SettingError: It cannot be; the message names the setting, its value and its origin.
    """

    def refuse(name: str, value: object, reason: str) -> SettingError:
        return bad_value(name, value, origins.get(name, DEFAULT), reason)

    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        reason = "no address of this machine; use for example 127.0.0.1 or 0.0.0.0"
        raise refuse("JARVIS_HOST", host, reason) from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        match error.errno:
            case errno.EADDRINUSE:
                reason = (
                    f"another program uses it on {host}; end that program or choose another port "
                    "(0 takes any that is free)"
                )
                raise refuse("JARVIS_PORT", port, reason) from None
            case errno.EACCES | errno.EPERM:
                reason = "this user may not listen on it; choose a port from 1024 to 65535"
                raise refuse("JARVIS_PORT", port, reason) from None
        reason = f"this machine cannot listen on it: {error.strerror}"
        raise refuse("JARVIS_HOST", host, reason) from None
    sock.setblocking(False)
    return sock


def url(sock: socket.socket) -> str:
    """Address of a listening socket for a client on this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def listen(app: Sanic[Any, Any], sock: socket.socket) -> AsyncioServer:
    """Accept connections; returns at once."""
    from jarvis_core.http.protocol import Connection

    server = await app.create_server(
        sock=sock,
        protocol=Connection,
        backlog=BACKLOG,  # or Sanic would lower it to its own, 100
        asyncio_server_kwargs={"start_serving": False},
    )
    assert server is not None
    await server.startup()
    await server.start_serving()
    return server


class _Server:
    """One life of the server."""

    def __init__(
        self, settings: Settings, registry: Registry, sock: socket.socket, announce: Announce
    ) -> None:
        self._settings = settings.server
        self._sock = sock
        self._announce = announce
        self._catalogue = Catalogue(settings.models, settings.server, announce)
        self._registry = registry
        self._front: Front
        self._signals: list[signal.Signals] = []
        self._first_signal = asyncio.Event()
        self._second_signal = asyncio.Event()
        self._no_model_left = False

    async def serve(self) -> int:
        """Everything from the first connection to the last."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal, number)
        # Engine hosts take as long to start as this process takes to import: both at once.
        await self._catalogue.start()
        server = await listen(await self._make_app(), self._sock)
        self._tell("listening", url(self._sock))
        gc.freeze()  # what is imported stays: the collector need not look at it again
        watch = asyncio.create_task(self._watch_models())
        await self._first_signal.wait()
        watch.cancel()
        self._tell("stopping", self._why_stopping())
        hurry = asyncio.create_task(self._second_signal.wait())
        ending = asyncio.create_task(self._end(server))
        await asyncio.wait((hurry, ending), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            ending.cancel()
            for connection in tuple(server.connections):
                connection.abort()
            await self._close(server, HURRY_GRACE)
            return 128 + self._signals[-1]
        hurry.cancel()
        await ending
        return CONFIG_ERROR if self._no_model_left else 0

    async def _make_app(self) -> Sanic[Any, Any]:
        await asyncio.to_thread(importlib.import_module, "jarvis_core.http.app")
        from jarvis_core.http.app import create_app

        app = create_app(self._settings, self._catalogue)
        self._front = app.ctx.front
        self._front.metrics.add_plugins(self._registry.plugins)
        return app

    def _signal(self, number: signal.Signals) -> None:
        self._signals.append(number)
        (self._second_signal if self._first_signal.is_set() else self._first_signal).set()

    def _tell(self, kind: EventKind, message: str) -> None:
        self._announce(ModelEvent(kind=kind, message=message))

    def _why_stopping(self) -> str:
        if self._no_model_left:
            return "there is nothing to serve"
        return (
            f"running answers may go on for {self._settings.drain_timeout:g} s; "
            "a second signal ends the server at once"
        )

    async def _watch_models(self) -> None:
        """End the server if every model that it has turns out to be impossible to load."""
        await self._catalogue.settled()
        errors = [await self._why_failed(status.name) for status in self._catalogue.statuses()]
        if errors and all(isinstance(e, ConfigError | InsufficientMemory) for e in errors):
            self._no_model_left = True
            self._first_signal.set()

    async def _why_failed(self, name: str) -> JarvisError | None:
        """The error that a model failed with, None if it has not."""
        if self._catalogue.status(name).state is not ModelState.FAILED:
            return None
        try:
            async with self._catalogue.lease(name):
                return None
        except JarvisError as error:
            return error

    # -- the end ---------------------------------------------------------------------------

    async def _end(self, server: AsyncioServer) -> None:
        """Let running answers end, cut what is left, and close."""
        exchanges = self._front.exchanges
        exchanges.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout):
                await exchanges.none_left()
        if len(exchanges):
            _log.warning("answers are cut", answers=len(exchanges))
            exchanges.cut_all(
                ModelUnavailable("the server is shutting down and ends this answer", retry_after=5)
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(CUT_GRACE):
                    await exchanges.none_left()
        await self._close(server, CLOSE_GRACE)

    async def _close(self, server: AsyncioServer, grace: float) -> None:
        """Close every connection and end every host."""
        server.close()
        for connection in tuple(server.connections):
            connection.close_if_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(self._catalogue.aclose(), _all_gone(server.connections))
        for connection in tuple(server.connections):
            connection.abort()
        self._front.responses.close()


async def _all_gone(connections: Collection[Connection]) -> None:
    """Wait until what was written to every connection is sent and it is closed."""
    while connections:  # noqa: ASYNC110 - Sanic's set tells nobody
        await asyncio.sleep(0.01)
