"""Scans: small readers of text that arrives in pieces, put together to tell what a tool call is.

A scan is a generator that reads from a ``Cursor``, yields None wherever the text has run out, and
returns what it read. It may also yield pieces of a call as soon as they are certain. It raises
``Mismatch`` as soon as the text cannot be what it looks for::

    def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
        yield from spaces(cursor)
        text = yield from json_text(cursor, opening="{")
        yield from literal(cursor, "</tool_call>")
        return [read_call(text)]


    CallParser(scan_call, markers=["<tool_call>"])

Every character is looked at once, however the text is cut.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

from jarvis_core.json_scan import JsonScanner
from jarvis_core.structs import ToolCallDelta

T = TypeVar("T")
Scan = Generator[ToolCallDelta | None, None, T]

_SPACES = re.compile(r"[ \t\r\n]*")


class Mismatch(Exception):
    """The text is not what a scan looks for."""


class Cursor:
    """Where a scan stands in text that arrives in pieces.

    Attributes:
        text: The piece at hand.
        pos: Index of the next character in it.
    """

    __slots__ = ("pos", "text")

    def __init__(self, text: str = "") -> None:
        """Start at the beginning of a piece."""
        self.text = text
        self.pos = 0

    @property
    def empty(self) -> bool:
        """Whether the piece at hand is read to its end: time to yield."""
        return self.pos >= len(self.text)


def peek(cursor: Cursor) -> Scan[str]:
    """The next character, which is not consumed."""
    while cursor.empty:
        yield None
    return cursor.text[cursor.pos]


def spaces(cursor: Cursor) -> Scan[None]:
    """Skip white space, up to a character that is none."""
    yield from run_of(cursor, _SPACES)


def run_of(cursor: Cursor, pattern: re.Pattern[str]) -> Scan[str]:
    """The longest run of characters, up to one that does not belong to it.

    Args:
        pattern: A repeated character class, such as ``[a-z]*``.
    """
    pieces = []
    while True:
        start = cursor.pos
        if found := pattern.match(cursor.text, start):
            cursor.pos = found.end()
            pieces.append(cursor.text[start : cursor.pos])
        if not cursor.empty:
            return "".join(pieces)
        yield None


def literal(cursor: Cursor, *options: str) -> Scan[str]:
    """One of some texts, of which none begins another.

    Raises:
        Mismatch: None of them comes.
    """
    read = ""
    while True:
        read += yield from peek(cursor)
        cursor.pos += 1
        if read in options:
            return read
        if not any(option.startswith(read) for option in options):
            raise Mismatch


def pieces_until(cursor: Cursor, end: str) -> Generator[str | None, None, None]:
    """The text up to another one, which is consumed, in pieces as they come; None in between."""
    held = ""  # may be the beginning of the end
    while True:
        text, start = cursor.text, cursor.pos
        at = -1
        if held:  # the end may have begun in what came before
            window = held + text[start : start + len(end)]
            if (at := window.find(end)) >= 0:
                cursor.pos = start + at + len(end) - len(held)
                held = window[:at]
            elif len(text) - start < len(end):
                text, start = window, 0
                held = ""
        if at < 0:
            if (at := text.find(end, start)) >= 0:
                cursor.pos = at + len(end)
                held += text[start:at]
            else:
                cut = len(text) - _overlap(text, start, end)
                held, piece = text[cut:], held + text[start:cut]
                cursor.pos = len(cursor.text)
                if piece:
                    yield piece
                yield None
                continue
        if held:
            yield held
        return


def text_until(cursor: Cursor, end: str) -> Scan[str]:
    """The text up to another one, which is consumed."""
    pieces = []
    for piece in pieces_until(cursor, end):
        if piece is None:
            yield None
        else:
            pieces.append(piece)
    return "".join(pieces)


def _overlap(text: str, start: int, end: str) -> int:
    """How many characters at the end of a text may be the beginning of another one."""
    for n in range(min(len(end) - 1, len(text) - start), 0, -1):
        if text.endswith(end[:n]):
            return n
    return 0


def json_text(
    cursor: Cursor, *, opening: str = "{[", keys: frozenset[str] | None = None
) -> Scan[str]:
    """The text of one JSON object or array, to its closing bracket.

    Args:
        opening: The brackets that it may begin with.
        keys: The keys that an outermost object may have; None allows all. With keys, text is
            known not to be a call at the first other key, not only at its end.

    Raises:
        Mismatch: It is not JSON.
    """
    scanner = JsonScanner(opening=opening, keys=keys)
    pieces = []
    while True:
        start = cursor.pos
        cursor.pos = scanner.feed(cursor.text, start)
        pieces.append(cursor.text[start : cursor.pos])
        if scanner.broken:
            raise Mismatch
        if scanner.done:
            return "".join(pieces)
        yield None
