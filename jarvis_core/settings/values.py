"""Values with their origin, and the messages about them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from jarvis_core.errors import SettingError

COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
DEFAULT = "default"
TOML_FILE = "jarvis.toml"
DOTENV_FILE = ".env"


@frozen(kw_only=True)
class RawValue:
    """A value as it was read.

    Attributes:
        value: Text, or a typed value of ``jarvis.toml``.
        origin: Where it was read.
        text: Whether it is text that still has to be parsed.
    """

    value: Any
    origin: str
    text: bool = True


@frozen(kw_only=True)
class SettingValue:
    """What a setting is, and who says so. Its value may be secret: print ``shown``.

    Attributes:
        name: Its variable, ``JARVIS_PORT``, or its place in the file, ``models.phi3.source``.
        value: The value.
        origin: ``command line``, ``environment``, ``.env line 3``, ``jarvis.toml [server]`` or
            ``default``.
        help: One line.
        secret: Never print the value.
    """

    name: str
    value: Any
    origin: str = DEFAULT
    help: str = ""
    secret: bool = False

    @property
    def shown(self) -> str:
        """The value for people; of a secret, only whether it is set."""
        if self.secret:
            return "set" if self.value else "not set"
        if self.value is None or self.value == ():
            return "not set"
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, tuple | list):
            return ", ".join(map(str, self.value))
        return str(self.value)

    def error(self, reason: str) -> SettingError:
        """An error that names the setting, its value and its origin.

        Args:
            reason: What is wrong and what to do.
        """
        return bad_value(self.name, self.value, self.origin, reason, secret=self.secret)


def bad_value(
    name: str, value: Any, origin: str, reason: str, *, secret: bool = False
) -> SettingError:
    """An error that names setting, value, origin and the reason, in one line."""
    if secret:
        return SettingError(f"{name} ({origin}): {reason}")
    return SettingError(f"{name} is {_short(value)} ({origin}): {reason}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` with the known name that is most like this one, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {found[0]}?" if found else ""


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
