"""One field of a settings class: how it is declared, and what is known about it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from enum import Enum
from typing import Any, Literal, Union

import attrs

_KEY = "jarvis"


def setting(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    help: str,  # noqa: A002  # the word that argparse and click use
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
        _KEY: {
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


@attrs.frozen(kw_only=True)
class Setting:
    """What is known about one field of a settings class.

    Attributes:
        name: Its name, as in ``jarvis.toml``.
        type: Its type, resolved.
        required: Whether it has no default.
        default: Its default, None where it has none.
        help: One line for ``jarvis settings``.
        env: Environment variables that set it beside the derived name.
        choices: The only values allowed; empty allows all.
        ge: Least value allowed.
        le: Greatest value allowed.
        secret: Never print the value.
    """

    name: str
    type: Any
    required: bool = False
    default: Any = None
    help: str = ""
    env: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    ge: float | None = None
    le: float | None = None
    secret: bool = False

    def allowed(self, *, text: bool = False) -> str:
        """What values are allowed, in words that follow "must be".

        Args:
            text: Whether the value comes as text (environment, ``.env``, command line), not as a
                typed value (``jarvis.toml``).
        """
        if self.choices:
            return _one_of(self.choices)
        return _words(self.type, self._range(), text)

    def _range(self) -> str:
        if self.ge is not None and self.le is not None:
            return f" from {_plain(self.ge)} to {_plain(self.le)}"
        if self.ge is not None:
            return f" of at least {_plain(self.ge)}"
        return f" of at most {_plain(self.le)}" if self.le is not None else ""


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings of a settings class, in order.

    Raises:
        TypeError: It is no attrs class.
    """
    if not attrs.has(cls):
        raise TypeError(f"{cls.__name__} is no attrs class")
    hints = typing.get_type_hints(cls)
    return tuple(
        Setting(
            name=field.alias or field.name,
            type=hints.get(field.name, Any),
            required=field.default is attrs.NOTHING,
            default=_default(field.default),
            **field.metadata.get(_KEY, {}),
        )
        for field in attrs.fields(cls)
        if field.init
    )


def inner_type(tp: Any) -> Any:
    """The type without ``| None``."""
    if typing.get_origin(tp) in (Union, types.UnionType):
        rest = [arg for arg in typing.get_args(tp) if arg is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return tp


def members_of(tp: Any) -> tuple[Any, ...]:
    """The types of a union, without None; nothing where the type is no union of several."""
    if typing.get_origin(tp) not in (Union, types.UnionType):
        return ()
    members = tuple(arg for arg in typing.get_args(tp) if arg is not type(None))
    return members if len(members) > 1 else ()


def item_type(tp: Any) -> Any | None:
    """The type of the items where the type is a list of some kind, else None."""
    inner = inner_type(tp)
    if inner in _LISTS:
        return Any
    if typing.get_origin(inner) in _LISTS:
        return typing.get_args(inner)[0]
    return None


_LISTS = (tuple, list, set, frozenset, Sequence, Collection, Iterable, Set)
_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def _default(default: Any) -> Any:
    # ``Factory`` is a class at run time and a function for type checkers.
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory()
    return None if default is attrs.NOTHING else default


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _one_of(choices: tuple[Any, ...]) -> str:
    return "one of: " + ", ".join(str(choice) for choice in choices)


def _words(tp: Any, range_: str, text: bool) -> str:
    inner = inner_type(tp)
    if typing.get_origin(inner) is Literal:
        return _one_of(typing.get_args(inner))
    item = item_type(inner)
    if item is not None:
        plural = _PLURALS.get(item, "values")
        return f"{plural} separated by commas" if text else f"a list of {plural}"
    if inner in (int, float):
        return _NOUNS[inner] + range_
    if inner in _NOUNS:
        return _NOUNS[inner]
    if members := members_of(inner):
        return ", or ".join(_words(member, range_, text) for member in members)
    if inspect.isclass(inner) and issubclass(inner, Enum):
        return _one_of(tuple(member.value for member in inner))
    return "a JSON object" if text else "a table"
