"""Settings: attrs classes, and where their values come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


def setting(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    help: str,
    env: tuple[str, ...] = (),
    choices: tuple[Any, ...] = (),
    ge: float | None = None,
    le: float | None = None,
    secret: bool = False,
) -> Any:
    """A field of a settings class.

    Args:
        default: Value where nobody says otherwise.
        factory: Makes the default, for mutable ones.
        help: One line for ``jarvis settings``; the unit first.
        env: Environment variables that set it beside the derived name, older names included.
        choices: The only values allowed.
        ge: Least value allowed.
        le: Greatest value allowed.
        secret: Never print the value.
    """
    metadata = {
        "jarvis": {
            "help": help,
            "env": env,
            "choices": choices,
            "ge": ge,
            "le": le,
            "secret": secret,
        }
    }
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)
