"""JSON as text: where a value ends while it arrives in pieces, and how its members were written.

A decoder has to start anew with every piece, which is quadratic; ``JsonScanner`` reads each
character once. It is as strict as JSON is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum, auto

_SPACES = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LITERALS = ("true", "false", "null")
_CLOSING = {"{": "}", "[": "]"}
_HEX = frozenset("0123456789abcdefABCDEF")


class _State(Enum):
    """What comes next."""

    START = auto()
    VALUE = auto()
    FIRST_VALUE = auto()
    KEY = auto()
    FIRST_KEY = auto()
    COLON = auto()
    AFTER = auto()
    STRING = auto()
    ESCAPE = auto()
    SCALAR = auto()


class JsonScanner:
    """Reads one object or array.

    Attributes:
        done: Whether it is complete.
        broken: Whether the text is not JSON.
    """

    def __init__(self, *, opening: str = "{[", keys: frozenset[str] | None = None) -> None:
        """Start before the value.

        Args:
            opening: The brackets that it may begin with.
            keys: The keys that an outermost object may have; None allows all.
        """
        self.done = False
        self.broken = False
        self._opening = opening
        self._keys = keys
        self._state = _State.START
        self._open: list[str] = []
        self._in_key = False
        self._piece: list[str] = []  # the key or scalar that is being read
        self._hex_left = 0

    def feed(self, text: str, at: int) -> int:
        """Read on from an index.

        Returns:
            The index after what was read: the end of the text, or behind the value if it is done,
            or the character that broke it.
        """
        end = len(text)
        while at < end and not self.done and not self.broken:
            if self._state is _State.STRING:
                at = self._string(text, at)
            elif self._state is _State.ESCAPE:
                at = self._escape(text[at], at)
            elif self._state is _State.SCALAR:
                at = self._scalar(text, at)
            else:
                if self._state is not _State.START:
                    at = _end(_SPACES, text, at)
                if at < end:
                    at = self._structure(text[at], at)
        return at

    def _structure(self, char: str, at: int) -> int:
        state = self._state
        if char in "{[" and state in (_State.START, _State.VALUE, _State.FIRST_VALUE):
            self._begin(char)
        elif char == '"' and state in (_State.VALUE, _State.FIRST_VALUE):
            self._state = _State.STRING
        elif char == '"' and state in (_State.KEY, _State.FIRST_KEY):
            self._in_key = True
            self._piece = []
            self._state = _State.STRING
        elif char == ":" and state is _State.COLON:
            self._state = _State.VALUE
        elif char == "," and state is _State.AFTER:
            self._state = _State.KEY if self._open[-1] == "{" else _State.VALUE
        elif self._closes(char):
            self._open.pop()
            self._after_value()
        elif char in "-0123456789tfn" and state in (_State.VALUE, _State.FIRST_VALUE):
            self._piece = []
            self._state = _State.SCALAR
            return at
        else:
            self.broken = True
        return at if self.broken else at + 1

    def _begin(self, char: str) -> None:
        if not self._open and char not in self._opening:
            self.broken = True
            return
        self._open.append(char)
        self._state = _State.FIRST_KEY if char == "{" else _State.FIRST_VALUE

    def _closes(self, char: str) -> bool:
        if not self._open or char != _CLOSING[self._open[-1]]:
            return False
        first = _State.FIRST_KEY if char == "}" else _State.FIRST_VALUE
        return self._state in (_State.AFTER, first)

    def _after_value(self) -> None:
        self._state = _State.AFTER
        self.done = not self._open

    def _string(self, text: str, at: int) -> int:
        start, at = at, _end(_PLAIN, text, at)
        self._keep(text[start:at])
        if at == len(text):
            return at
        if text[at] == '"':
            self._end_string()
        elif text[at] == "\\":
            self._keep("\\")
            self._state = _State.ESCAPE
        else:
            self.broken = True  # a control character, as a line break, has to be escaped
        return at if self.broken else at + 1

    def _end_string(self) -> None:
        if not self._in_key:
            self._after_value()
            return
        self._in_key = False
        self._state = _State.COLON
        if self._keys is not None and self._open == ["{"]:
            self.broken = json.loads('"' + "".join(self._piece) + '"') not in self._keys

    def _escape(self, char: str, at: int) -> int:
        if self._hex_left:
            self._hex_left -= 1
            self.broken = char not in _HEX
        elif char == "u":
            self._hex_left = 4
        else:
            self.broken = char not in '"\\/bfnrt'
        if not self._hex_left:
            self._state = _State.STRING
        self._keep(char)
        return at if self.broken else at + 1

    def _keep(self, text: str) -> None:
        if self._in_key and len(self._open) == 1:
            self._piece.append(text)

    def _scalar(self, text: str, at: int) -> int:
        start, at = at, _end(_SCALAR, text, at)
        self._piece.append(text[start:at])
        if self._piece[0][:1].isalpha():
            word = "".join(self._piece)
            self._piece = [word]
            complete = word in _LITERALS
            self.broken = not any(literal.startswith(word) for literal in _LITERALS)
        elif at < len(text):
            complete = _NUMBER.fullmatch("".join(self._piece)) is not None
        if at < len(text) and not self.broken:
            self.broken = not complete
            self._after_value()
        return at


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def is_object(text: str) -> bool:
    """Whether a text is a JSON object, with nothing but white space beside it."""
    scanner, text = JsonScanner(opening="{"), text.strip(" \t\r\n")
    return scanner.feed(text, 0) == len(text) and scanner.done


# Numbers stay text: they are not looked at, and Python refuses to convert very long ones.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def json_members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as the text that was written.

    Raises:
        ValueError: It is not an object, a key is there twice, or it is nested too deep.
    """
    members: dict[str, str] = {}
    for key, value in _items(text, "{"):
        if key in members:
            raise ValueError(f"the key {key!r} is there twice")
        members[key] = value
    return members


def json_items(text: str) -> list[str]:
    """The items of a JSON array, each as the text that was written.

    Raises:
        ValueError: It is not an array, or it is nested too deep.
    """
    return [value for _, value in _items(text, "[")]


def _items(text: str, opening: str) -> Iterator[tuple[str, str]]:
    """Keys, empty in an array, and values."""
    closing, key = _CLOSING[opening], ""
    try:
        at = _expect(text, 0, opening)
        while text[at] != closing:
            if opening == "{":
                key, at = _DECODER.raw_decode(text, at)
                at = _expect(text, at, ":")
            start = at
            _, at = _DECODER.raw_decode(text, start)
            yield key, text[start:at]
            at = _end(_SPACES, text, at)
            if text[at] != closing:
                at = _expect(text, at, ",")
    except (IndexError, RecursionError) as error:
        raise ValueError("not a JSON value that can be read") from error


def _expect(text: str, at: int, char: str) -> int:
    """The index behind a character that must come next, and behind the white space around it."""
    at = _end(_SPACES, text, at)
    if text[at] != char:
        raise ValueError(f"expected {char!r}")
    return _end(_SPACES, text, at + 1)
