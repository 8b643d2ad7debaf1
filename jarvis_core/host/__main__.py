"""Entry of an engine host: ``python -m jarvis_core.host``, started by the server.

``--describe`` prints as JSON what this environment can load, and ends: the server asks it of the
interpreter that a model's ``python`` names.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import logging
import os
import resource
import signal
import socket
import sys
from functools import partial
from typing import Any

import attrs

from jarvis_core.host.protocol import PROTOCOL
from jarvis_core.log_lines import LevelPrefix

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Describe this environment, or serve one model on an inherited socket."""
    parser = argparse.ArgumentParser(prog="python -m jarvis_core.host", description=__doc__)
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--socket", type=int, help="file descriptor of the socket pair")
    parser.add_argument("--lifeline", type=int, help="file descriptor of the server's pipe")
    parser.add_argument("--log-level", default="INFO")
    parser.add_argument("--stale", type=float, default=10.0, help="see HostLimits.heartbeat_stale")
    options = parser.parse_args()
    if options.describe:
        json.dump(describe(), sys.stdout)
        return
    _prepare_process(options.log_level)
    _serve(options.socket, options.lifeline, options.stale)


def describe() -> dict[str, Any]:
    """Engines with their settings, formats, and the protocol of this environment."""
    from jarvis_core.plugins import load_plugins

    registry = load_plugins()
    return {
        "protocol": PROTOCOL,
        "engines": {
            name: {
                "env_prefix": engine.env_prefix,
                "settings": [field.name for field in attrs.fields(engine.settings)],
            }
            for name, engine in registry.engines.items()
        },
        "chat_formats": sorted(registry.chat_formats),
        "broken": {p.name: p.error for p in registry.broken},
    }


def _serve(socket_fd: int, lifeline_fd: int, stale: float) -> None:
    import uvloop

    from jarvis_core.host.engine_side import EngineSide, watch_lifeline

    watch_lifeline(lifeline_fd)

    async def serve() -> None:
        # If the next ping is not answered in time, all stacks are written to stderr: what an engine
        # blocks the loop with is told even while it holds the interpreter.
        answering = partial(faulthandler.dump_traceback_later, stale)
        await EngineSide(on_ping=answering).run(socket.socket(fileno=socket_fd))

    uvloop.run(serve())
    # Threads of a backend that is still loading or computing must not hold the exit.
    logging.shutdown()
    os._exit(0)


def _prepare_process(log_level: str) -> None:
    """No core dumps, no debugger at an abort, logs to stderr."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LevelPrefix())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("jarvis_core").setLevel(log_level.upper())


if __name__ == "__main__":
    main()
