"""Scans of calls whose arguments are JSON, as the models of many families write them.

Each reads what follows after a marker, see ``jarvis_core.scanning``.
"""

from __future__ import annotations

import re

from jarvis_core.parsing import Call, read_call, read_calls
from jarvis_core.scanning import Cursor, Mismatch, Scan, json_text, literal, peek, run_of, spaces

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]*")
_KEYS = ("arguments", "parameters")


def tagged(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON object between tags."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="{")
    yield from spaces(cursor)
    yield from literal(cursor, "</tool_call>")
    return [read_call(text, arguments=_KEYS)]


def bare(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON object without an end of its own."""
    yield from spaces(cursor)
    keys = frozenset({"name", "id", "type", *_KEYS})
    text = yield from json_text(cursor, opening="{", keys=keys)
    return [read_call(text, arguments=_KEYS)]


def listed(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON array of calls."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    return read_calls(text, arguments=_KEYS)


def listed_in_tags(closing: str, cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON array of calls, and a closing tag."""
    calls = yield from listed(cursor, marker)
    yield from spaces(cursor)
    yield from literal(cursor, closing)
    return calls


def named(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A name, and arguments after a mark of their own; or the array of older models."""
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "[":
        return (yield from listed(cursor, marker))
    name = yield from run_of(cursor, _NAME)
    if not name:
        raise Mismatch
    call_id = None
    if (yield from literal(cursor, "[CALL_ID]", "[ARGS]")) == "[CALL_ID]":
        call_id = yield from run_of(cursor, _NAME)
        yield from literal(cursor, "[ARGS]")
    yield from spaces(cursor)
    arguments = yield from json_text(cursor, opening="{")
    return [Call(name=name, arguments=arguments, id=call_id)]


FENCED = ("\n```json\n", "\n```<｜tool▁call▁end｜>")


def _another(cursor: Cursor) -> Scan[bool]:
    """Whether one more call begins, in a list of them that DeepSeek's models write."""
    yield from spaces(cursor)
    begun = yield from literal(cursor, "<｜tool▁call▁begin｜>", "<｜tool▁calls▁end｜>")
    return begun == "<｜tool▁call▁begin｜>"


def fenced(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls whose arguments stand in a block of code."""
    calls: list[Call] = []
    while (yield from _another(cursor)):
        yield from literal(cursor, "function<｜tool▁sep｜>")
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        yield from literal(cursor, FENCED[0])
        arguments = yield from json_text(cursor, opening="{")
        yield from literal(cursor, FENCED[1])
        calls.append(Call(name=name, arguments=arguments))
    return calls


def separated(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls in which a token stands between name and arguments."""
    calls: list[Call] = []
    while (yield from _another(cursor)):
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        yield from literal(cursor, "<｜tool▁sep｜>")
        arguments = yield from json_text(cursor, opening="{")
        yield from literal(cursor, "<｜tool▁call▁end｜>")
        calls.append(Call(name=name, arguments=arguments))
    return calls


def numbered(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls in a section, each with an identifier that holds its name; as Kimi writes them."""
    calls: list[Call] = []
    end = "<|tool_calls_section_end|>"
    while True:
        yield from spaces(cursor)
        begun = yield from literal(cursor, "<|tool_call_begin|>", *([end] if calls else []))
        if begun == end:
            return calls
        yield from spaces(cursor)
        call_id = yield from run_of(cursor, _CALL_ID)
        if not (name := call_id.removeprefix("functions.").rpartition(":")[0]):
            raise Mismatch
        yield from spaces(cursor)
        yield from literal(cursor, "<|tool_call_argument_begin|>")
        yield from spaces(cursor)
        arguments = yield from json_text(cursor, opening="{")
        yield from spaces(cursor)
        yield from literal(cursor, "<|tool_call_end|>")
        calls.append(Call(name=name, arguments=arguments))


def action(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """The calls of an action, as Command models write them.

    They are numbered anew in each answer: the core gives them identifiers.
    """
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    yield from spaces(cursor)
    yield from literal(cursor, "<|END_ACTION|>")
    return read_calls(text, name="tool_name", arguments=("parameters",), ignored=("tool_call_id",))
