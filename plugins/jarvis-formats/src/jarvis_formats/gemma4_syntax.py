"""How Gemma 4 writes values: JSON without quotes around keys, and a mark around strings.

Inside the marks nothing is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jarvis_core import (
    Cursor,
    MarkerSearch,
    Mismatch,
    PromptBuilder,
    Scan,
    literal,
    peek,
    run_of,
    spaces,
    tojson,
)

MARK = '<|"|>'
MAX_DEPTH = 64
_KEY = re.compile(r"[^\s:,{}\[\]<\"]*")
_BARE = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS = {"true": "true", "false": "false", "null": "null", "None": "null"}


# -- printing ----------------------------------------------------------------------------------


def in_order(members: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The members of an object as the template sorts them, without regard to case."""
    return sorted(members.items(), key=lambda member: member[0].lower())


def print_text(out: PromptBuilder, text: str) -> None:
    """Add a string in its marks."""
    out.scaffold(MARK).content(text).scaffold(MARK)


def print_value(out: PromptBuilder, value: Any, *, marked_keys: bool = False) -> None:
    """Add a value; null is ``None``, as the template has it.

    Args:
        out: Where to.
        value: What JSON can hold.
        marked_keys: Keys are strings in marks: so they are in schemas, not in arguments.
    """
    if isinstance(value, str):
        print_text(out, value)
    elif isinstance(value, bool):
        out.scaffold("true" if value else "false")
    elif isinstance(value, Mapping):
        print_members(out, value, marked_keys=marked_keys)
    elif isinstance(value, Sequence):
        out.scaffold("[")
        for k, item in enumerate(value):
            out.scaffold("," if k else "")
            print_value(out, item, marked_keys=marked_keys)
        out.scaffold("]")
    else:
        out.content(str(value))


def print_members(
    out: PromptBuilder, members: Mapping[str, Any], *, marked_keys: bool = False
) -> None:
    """Add an object."""
    out.scaffold("{")
    for k, (key, value) in enumerate(in_order(members)):
        out.scaffold("," if k else "")
        if marked_keys:
            print_text(out, key)
        else:
            out.content(key)
        out.scaffold(":")
        print_value(out, value, marked_keys=marked_keys)
    out.scaffold("}")


def written(value: Any) -> str:
    """A value as a model writes it; null is ``null``."""
    if isinstance(value, str):
        return f"{MARK}{value}{MARK}"
    if isinstance(value, Mapping):
        members = (f"{bare_key(key)}:{written(item)}" for key, item in in_order(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(written, value)) + "]"
    return tojson(value)


def bare_key(key: str) -> str:
    """A key as a model writes it: in marks only if it could be read as something else."""
    return key if key and _KEY.fullmatch(key) else f"{MARK}{key}{MARK}"


# -- reading -----------------------------------------------------------------------------------


def scan_object(cursor: Cursor, depth: int = 0) -> Scan[str]:
    """An object from its opening brace to its closing one, as JSON text.

    Raises:
        Mismatch: It is none, or it is nested too deep.
    """
    members: list[str] = []
    yield from literal(cursor, "{")
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "}":
        cursor.pos += 1
        return "{}"
    while True:
        yield from spaces(cursor)
        key = yield from _key(cursor)
        yield from spaces(cursor)
        yield from literal(cursor, ":")
        value = yield from _value(cursor, depth + 1)
        members.append(f"{tojson(key)}: {value}")
        if (yield from _separator(cursor, "}")) == "}":
            return "{" + ", ".join(members) + "}"


def _array(cursor: Cursor, depth: int) -> Scan[str]:
    items: list[str] = []
    yield from literal(cursor, "[")
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "]":
        cursor.pos += 1
        return "[]"
    while True:
        items.append((yield from _value(cursor, depth + 1)))
        if (yield from _separator(cursor, "]")) == "]":
            return f"[{', '.join(items)}]"


def _separator(cursor: Cursor, closing: str) -> Scan[str]:
    yield from spaces(cursor)
    return (yield from literal(cursor, ",", closing))


def _value(cursor: Cursor, depth: int) -> Scan[str]:
    if depth > MAX_DEPTH:
        raise Mismatch
    yield from spaces(cursor)
    first = yield from peek(cursor)
    if first == "{":
        return (yield from scan_object(cursor, depth))
    if first == "[":
        return (yield from _array(cursor, depth))
    if first == "<":
        return tojson((yield from _text(cursor)))
    word = yield from run_of(cursor, _BARE)
    if word in _WORDS:
        return _WORDS[word]
    if not _NUMBER.fullmatch(word):
        raise Mismatch
    return word


def _key(cursor: Cursor) -> Scan[str]:
    if (yield from peek(cursor)) == "<":
        return (yield from _text(cursor))
    key = yield from run_of(cursor, _KEY)
    if not key:
        raise Mismatch
    return key


def _text(cursor: Cursor) -> Scan[str]:
    """A string, byte for byte what stands between the marks."""
    yield from literal(cursor, MARK)
    search, pieces = MarkerSearch([MARK]), []
    while True:
        before, found, after = search.feed(cursor.text[cursor.pos :])
        pieces.append(before)
        cursor.pos = len(cursor.text) - len(after)
        if found:
            return "".join(pieces)
        yield None
