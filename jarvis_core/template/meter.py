"""What templates may do in the engine host itself, each with its price.

A rendering has a budget. Whatever takes longer for longer values pays first, for all that its
values hold, so that the budget bounds time and memory together. What is not known to be cheap, what
templates rarely do, and every mistake is left to the process: it raises, and nothing is printed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Undefined
from jinja2.filters import FILTERS
from markupsafe import Markup

from jarvis_core.template.process import tojson

STEP = 8
"""Units of one operation; a character is one unit."""
LARGEST = 1 << 63
"""Numbers are smaller: what takes longer for larger ones takes no longer."""

_DEEPEST = 64  # levels of a value
_FLOAT = 64  # units of printing one
_TOJSON = 16 * STEP  # units of printing nothing as JSON
_SEPARATORS = (None, (",", ":"), (", ", ": "))
_OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_NUMBERS = (int, float, bool)
_SCALARS = (*_NUMBERS, type(None), Undefined)
_LISTS = (list, tuple)
_SIZED: tuple[type, ...] = (
    str,
    list,
    tuple,
    dict,
    range,
    type({}.items()),
    type({}.keys()),
    type({}.values()),
)
# Of methods that print no more than they are given: what they take beside it is searched for in it.
_TEXT_METHODS = (
    "capitalize",
    "endswith",
    "lower",
    "lstrip",
    "removeprefix",
    "removesuffix",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
)
_TEXT_FILTERS = ("lower", "trim", "upper")
_DICT_METHODS = ("get", "items", "keys", "values")


class GiveUpError(Exception):
    """This rendering is for the process."""


class Meter:
    """The budget of one rendering, and the operations that it pays for.

    Attributes:
        left: Units that are left; none between renderings.
        operations: What a template may do, as filters: its own by their names, methods with a dot
            before them, and operators in brackets.
    """

    def __init__(self) -> None:
        """Have no budget yet."""
        self.left = 0
        self.operations: dict[str, Callable[..., Any]] = {
            "(+)": self._add,
            "(~)": self._concatenated,
            "(number)": self._arithmetic,
            "(compare)": self._weighed,
            "(in)": self._contains,
            "(slice)": self._sized,
            "(items)": lambda value: () if type(value) is Undefined else dict.items(value),
            "(for)": self._loop,
            "(leave)": self._leave,
            "(print)": self._printed,
            "(select)": self._select,
            "(pay)": self.spend,
            ".join": self._join_texts,
            ".replace": self._replace,
            "count": len,
            "d": FILTERS["d"],
            "default": FILTERS["default"],
            "dictsort": self._dictsort,
            "first": FILTERS["first"],
            "join": self._join,
            "last": FILTERS["last"],
            "length": len,
            "list": self._list,
            "replace": lambda value, old, new: self._replace(self.text(value), old, new),
            "safe": self._safe,
            "string": self.text,
            "tojson": self._tojson,
        }
        for name in _TEXT_METHODS:
            self.operations[f".{name}"] = self._text_operation(getattr(str, name))
        for name in _DICT_METHODS:
            self.operations[f".{name}"] = self._dict_operation(getattr(dict, name))
        for name in _TEXT_FILTERS:
            self.operations[name] = self._text_operation(FILTERS[name], takes=self.text)

    def spend(self, units: int) -> None:
        """Pay for something before it is done."""
        self.left -= units
        if self.left < 0:
            raise GiveUpError

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of what a template or a part of it prints."""
        parts = list(pieces)
        self.spend(sum(map(len, parts)))
        return "".join(parts)

    def text(self, value: Any) -> str:
        """A value as text; what is marked as safe is for the process."""
        if type(value) is str:
            return value
        self._weigh(value, 4)  # a character is rarely printed as more
        return str(value)

    def _safe(self, value: Any) -> Markup:
        text = self.text(value)
        self.spend(len(text))
        return Markup(text)

    def _printed(self, value: Any) -> str:
        if type(value) is not Markup:
            return self.text(value)
        self.spend(len(value))
        return str(value)

    def _leave(self, _: object) -> None:
        raise GiveUpError

    def _weigh(self, value: Any, each: int = 1, line: int = 0, depth: int = 1) -> None:
        """Pay for everything that a value holds: ``each`` a character, and ``line`` a level."""
        kind = type(value)
        self.left -= STEP + line * depth
        if kind is str:
            self.left -= len(value) * each
        elif kind is dict:
            for key, item in value.items():
                if type(key) is str:
                    self.left -= len(key) * each
                else:
                    self._weigh(key, each, line, depth + 1)
                self._weigh(item, each, line, depth + 1)
        elif kind in _LISTS:
            for item in value:
                self._weigh(item, each, line, depth + 1)
        elif kind is float:
            self.left -= _FLOAT
        elif kind not in _SCALARS or (kind is int and abs(value) >= LARGEST):
            raise GiveUpError
        if self.left < 0 or depth > _DEEPEST:
            raise GiveUpError

    def _weighed(self, value: Any) -> Any:
        self._weigh(value)
        return value

    def _sized(self, value: Any) -> Any:
        """A value that is copied or read from end to end, but not what it holds."""
        if type(value) not in _SIZED:
            raise GiveUpError
        self.spend(STEP + len(value))
        return value

    def _list(self, value: Any) -> list[Any]:
        """Its items, which may not have been objects of their own before."""
        self.spend(3 * len(self._sized(value)))
        return list(value)

    def _loop(self, values: Any, price: int) -> Any:
        """What is looped over, when each turn has a price."""
        if type(values) is Undefined:
            return values
        if type(values) not in _SIZED:
            raise GiveUpError
        self.spend(len(values) * price)
        return values

    def _search(self, text: str, *parts: object) -> None:
        """Pay for looking for texts in another; at worst every character is compared with all."""
        length = 0
        for part in parts:
            if type(part) is str:
                length += len(part)
            elif type(part) not in _SCALARS:
                raise GiveUpError
        self.spend(STEP + len(text) * (1 + length // 8))

    def _text_operation(
        self, operation: Callable[..., Any], takes: Callable[[Any], str] | None = None
    ) -> Callable[..., Any]:
        def run(value: Any, *args: Any) -> Any:
            text = takes(value) if takes else value
            if type(text) is not str:
                raise GiveUpError
            self._search(text, *args)
            made = operation(text, *args)
            if type(made) is list:
                self.spend(STEP * len(made))
            return made

        return run

    def _dict_operation(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(value: Any, *args: Any) -> Any:
            if type(value) is not dict or (args and not is_key(args[0])):
                raise GiveUpError
            return operation(value, *args)

        return run

    def _add(self, first: Any, *others: Any) -> Any:
        """What ``first + other + …`` gives."""
        if type(first) is str:
            length = len(first)
            for other in others:
                if type(other) is not str:
                    raise GiveUpError
                length += len(other)
            self.spend(length)
            return "".join((first, *others))
        for other in others:
            if type(first) in _LISTS and type(other) is type(first):
                self.spend(len(first) + len(other))
                first = first + other
            else:
                first = self._arithmetic(first, "+", other)
        return first

    def _arithmetic(self, left: Any, sign: str, right: Any) -> Any:
        """What numbers of common size give."""
        if type(left) not in _NUMBERS or type(right) not in _NUMBERS:
            raise GiveUpError
        if -LARGEST < left < LARGEST and -LARGEST < right < LARGEST:
            made = _OPERATORS[sign](left, right)
            if -LARGEST < made < LARGEST:
                return made
        raise GiveUpError

    def _concatenated(self, *values: Any) -> str:
        """What ``value ~ value ~ …`` gives."""
        return self.concat([self._printed(value) for value in values])

    def _join(self, values: Any, between: Any = "") -> str:
        return self._join_texts(
            self.text(between), [self.text(value) for value in self._sized(values)]
        )

    def _join_texts(self, between: Any, texts: Any) -> str:
        if type(between) is not str or any(type(text) is not str for text in self._sized(texts)):
            raise GiveUpError
        self.spend(len(between) * len(texts) + sum(map(len, texts)))
        return between.join(texts)

    def _replace(self, text: Any, old: Any, new: Any) -> str:
        if not type(text) is type(old) is type(new) is str:
            raise GiveUpError
        self._search(text, old)
        self.spend(text.count(old) * (STEP + len(new)))
        return text.replace(old, new)

    def _contains(self, values: Any, value: Any) -> bool:
        """What ``value in values`` gives."""
        if type(values) is str:
            self._search(values, value)
        elif type(value) is str and type(values) in _LISTS:
            self.spend(len(values) * (STEP + len(value) // 16))
        elif type(values) is not dict or not is_key(value):
            self._weigh(values)
            self._weigh(value)
        return value in values

    def _select(self, values: Any, name: str, value: str, wanted: bool) -> list[Any]:
        """Those of some objects that have a value under a name, or those that have not."""
        for item in self._loop(values, 4 * STEP):
            if type(item) is not dict:
                raise GiveUpError
        return [item for item in values if (item.get(name) == value) is wanted]

    def _dictsort(self, value: Any, *args: Any, **named: Any) -> Any:
        self._weigh(value, 16, 4 * STEP)
        return FILTERS["dictsort"](value, *args, **named)

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        lines = indent is not None
        if (lines and not (type(indent) is int and indent >= 0)) or separators not in _SEPARATORS:
            raise GiveUpError
        self.spend(_TOJSON)
        self._weigh(value, 2, indent + 2 * STEP if indent is not None else 0)
        return tojson(value, ensure_ascii, indent, separators, sort_keys)


def is_key(value: Any) -> bool:
    """Whether a value is quickly looked up in a dict: a tuple may hold itself many times over."""
    return type(value) is str or type(value) in _SCALARS
