"""Lines that an engine host, and each process of its backend, writes to stderr for the server."""

from __future__ import annotations

import logging

_NUMBERS = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Source: syslog(3), <syslog.h>; sd-daemon(3) writes them in front of a line as here."""

_LEVELS = {f"<{number}>": level for level, number in _NUMBERS.items()}


class LevelPrefix(logging.Formatter):
    """``<3>message``: the level in front of each line, so that the server logs it with its own.

    A line without one counts as a warning there. The engine host's own log has this formatter; an
    engine whose backend starts processes gives it to the handlers there:

        handler = logging.StreamHandler()
        handler.setFormatter(LevelPrefix("worker: %(message)s"))
        logging.basicConfig(handlers=[handler])
    """

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record, a prefix on each line."""
        number = _NUMBERS.get(record.levelname.lower(), 6)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{number}>{line}" for line in lines)


def split_level(line: str) -> tuple[str, str]:
    """The level of a line, as structlog names it, and its text."""
    level = _LEVELS.get(line[:3])
    return ("warning", line) if level is None else (level, line[3:])
