"""The process that compiles and renders chat templates, and nothing else.

A template comes with a model and is not ours: the sandbox keeps it from reaching out, and limits of
the operating system keep it from taking the engine host's time and memory. This file is run by its
path, as a script, and imports only jinja2, so that it starts quickly and knows nothing. The engine
host imports it too, for what both print alike: see ``inline``.

Frames go over the socket that is its standard input, each after four bytes of length. A job is what
``marshal`` makes of template, variables and the clock's time: it comes from the same interpreter,
and whoever sends it may do anything here. The other way nothing is trusted: a frame is a letter and
UTF-8 text. ``r`` says that the process is ready, ``t`` is a rendered text, ``e`` the kind of an
error, a line break, and a message. It ends when the other side closes, or when its parent is gone.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

MEMORY_LIMIT = 512 << 20  # bytes
SIZE_LIMIT = 16 << 20  # characters of a prompt
CPU_SECONDS = 3  # of one job; the other side gives up sooner, this counts when it is gone
POLL_SECONDS = 5.0  # between two looks whether the parent still lives


class RefusalError(Exception):
    """What a template raises with ``raise_exception``."""


def main() -> None:
    """Serve until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    sys.path[:] = json.loads(sys.argv[1])
    compiled = compiler()
    _limit_resources()
    with socket.socket(fileno=0) as peer:
        peer.settimeout(POLL_SECONDS)
        _send(peer, "r")
        while (job := _receive(peer, parent)) is not None:
            _limit_cpu()
            _send(peer, _answer(compiled, *marshal.loads(job)))


def _answer(
    compiled: Callable[[str], Any], source: str, variables: dict[str, Any], now: str
) -> str:
    from jinja2 import TemplateSyntaxError

    try:
        template = compiled(source)
    except TemplateSyntaxError as error:
        return f"esyntax\nline {error.lineno}: {error.message}"
    except MemoryError:
        return "ememory\n"
    except Exception as error:
        return f"esyntax\n{_brief(error)}"
    clock = datetime.fromisoformat(now)
    try:
        text: str = template.render(variables, strftime_now=clock.strftime)
    except RefusalError as error:
        return f"erefused\n{str(error)[:500]}"
    except MemoryError:
        return "ememory\n"
    except Exception as error:
        return f"efailed\n{_brief(error)}"
    return "esize\n" if len(text) > SIZE_LIMIT else f"t{text}"


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def compiler() -> Callable[[str], Any]:
    """A function that compiles a template, or knows it already."""
    from functools import lru_cache

    from jinja2.sandbox import SandboxedEnvironment

    # Some templates append to lists. What they may change came with the job, or is their own.
    environment = SandboxedEnvironment(**options())
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return lru_cache(maxsize=8)(environment.from_string)


def options() -> dict[str, Any]:
    """How templates are read, by an environment of Jinja's."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """``{% generation %}`` marks what a model wrote, for training; its body is printed."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return {
        "trim_blocks": True,
        "lstrip_blocks": True,
        "extensions": [Generation, "jinja2.ext.loopcontrols"],
    }


_AS_JSON = json.JSONEncoder(ensure_ascii=False)  # to make one takes as long as to use it


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter ``tojson`` of chat templates, which escapes nothing for HTML."""
    if not ensure_ascii and indent is None and separators is None and not sort_keys:
        return _AS_JSON.encode(value)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message: object) -> None:
    """What a template calls to refuse a conversation.

    Raises:
        RefusalError: Always.
    """
    raise RefusalError(message)


def _limit_resources() -> None:
    limits = [
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ]
    for kind, limit in limits:
        with contextlib.suppress(ValueError, OSError):  # macOS knows not all of them
            resource.setrlimit(kind, (limit, limit))


def _limit_cpu() -> None:
    seconds = int(time.process_time()) + CPU_SECONDS + 1
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _send(peer: socket.socket, reply: str) -> None:
    body = reply.encode("utf-8", "surrogatepass")
    peer.sendall(len(body).to_bytes(4, "big") + body)


def _receive(peer: socket.socket, parent: int) -> bytes | None:
    """The next frame without its length; None if there will be none."""
    data = b""
    while not data:
        try:
            data = peer.recv(1 << 16)
        except TimeoutError:
            if os.getppid() != parent:
                return None
            continue
        if not data:
            return None
    pieces = [data]
    while len(data) < 4:  # of a job nothing comes behind it before it is answered
        pieces = [data := data + _some(peer)]
    missing = 4 + int.from_bytes(data[:4], "big") - len(data)
    while missing > 0:
        pieces.append(_some(peer))
        missing -= len(pieces[-1])
    return b"".join(pieces)[4:]


def _some(peer: socket.socket) -> bytes:
    if piece := peer.recv(1 << 20):
        return piece
    raise EOFError


if __name__ == "__main__":
    with contextlib.suppress(OSError, EOFError):
        main()
