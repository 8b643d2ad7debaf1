"""Log lines: for people on a terminal, JSON elsewhere; the same shape whoever writes them."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from jarvis_core.models.events import ModelEvent
from jarvis_core.settings import ServerSettings

_log = structlog.stdlib.get_logger("jarvis.models")


def set_up(settings: ServerSettings, stream: TextIO | None = None) -> None:
    """Send everything that is logged, by us or by a library, to one stream.

    Args:
        settings: For level and format.
        stream: Where to; stderr by default.
    """
    stream = stream or sys.stderr
    level = logging.DEBUG if settings.debug else logging.getLevelName(settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings.log_format, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # Sanic's own lines repeat what ours say, and may quote a path.
    logging.getLogger("sanic").setLevel(logging.ERROR)


def for_people(format_: str, stream: TextIO | None = None) -> bool:
    """Whether people read the log: what the terminal tells them is not repeated there."""
    return format_ == "console" or (format_ == "auto" and (stream or sys.stderr).isatty())


def log_event(event: ModelEvent) -> None:
    """Tell a program that reads the log what the terminal tells people."""
    about = {"model": event.model, "engine": event.engine}
    match event.kind:
        case "listening":
            _log.info("listening", address=event.message)
        case "loading":
            _log.info("model loading", **about)
        case "ready":
            _log.info("model ready", **about, seconds=round(event.seconds or 0.0, 3))
        case "failed":
            _log.error("model cannot be loaded", **about, reason=event.message)
        case "stopping":
            _log.info("stopping", reason=event.message)


def _renderers(format_: str, stream: TextIO) -> list[Processor]:
    if for_people(format_, stream):
        # Tracebacks without local variables: those may hold what a client wrote.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
