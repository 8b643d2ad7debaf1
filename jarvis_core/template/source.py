"""Templates of an operator's own, from files."""

from __future__ import annotations

from pathlib import Path

from jarvis_core.errors import ConfigError

LONGEST = 1 << 20
"""Bytes of a template at most."""


def read_template(path: str) -> str:
    """The Jinja source in a file.

    Raises:
        ConfigError: There is no such file, or it is too long or no text.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(LONGEST + 1)
        text = raw.decode()
    except OSError as error:
        raise ConfigError(f"chat_template {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"chat_template {path}: is no UTF-8 text") from error
    if len(raw) > LONGEST:
        raise ConfigError(f"chat_template {path}: is over {LONGEST:,} bytes")
    if not text.strip():
        raise ConfigError(f"chat_template {path}: is empty")
    return text
