"""Scans of calls whose arguments are JSON, as the models of many families write them.

Each reads what follows after a marker, see ``jarvis_core.scanning``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jarvis_core.json_scan import json_items, json_members
from jarvis_core.parsing import Call, read_call, read_calls
from jarvis_core.scanning import Cursor, Mismatch, Scan, json_text, literal, peek, run_of, spaces

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]*")
_KEYS = ("arguments", "parameters")


def marked(closing: str, cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Objects or an array of calls, up to a closing mark; without one, up to their own end."""
    calls: list[Call] = []
    while True:
        yield from spaces(cursor)
        text = yield from json_text(cursor)
        each = read_calls if text.startswith("[") else _one_call
        calls += each(text, arguments=_KEYS)
        if not closing:
            return calls
        yield from spaces(cursor)
        if (yield from peek(cursor)) != "{":
            yield from literal(cursor, closing)
            return calls


def _one_call(text: str, *, arguments: Sequence[str]) -> list[Call]:
    return [read_call(text, arguments=arguments)]


def bare(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON object without an end of its own."""
    yield from spaces(cursor)
    keys = frozenset({"name", "id", "type", *_KEYS})
    text = yield from json_text(cursor, opening="{", keys=keys)
    return [read_call(text, arguments=_KEYS)]


def by_name(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """An array of calls, each an object with the name as its key; as Apertus writes them."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    yield from spaces(cursor)
    yield from literal(cursor, "<|tools_suffix|>")
    try:
        calls = [json_members(item) for item in json_items(text)]
    except ValueError:
        raise Mismatch from None
    if not calls or any(len(members) != 1 for members in calls):
        raise Mismatch
    return [_named(*members.popitem()) for members in calls]


def _named(name: str, arguments: str) -> Call:
    if not (name and _NAME.fullmatch(name) and arguments.startswith("{")):
        raise Mismatch
    return Call(name=name, arguments=arguments)


def functions(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A call in a tag that holds its name, as functionary 3.1 writes it."""
    if not (name := (yield from run_of(cursor, _NAME))):
        raise Mismatch
    yield from literal(cursor, ">")
    yield from spaces(cursor)
    arguments = yield from json_text(cursor, opening="{")
    yield from spaces(cursor)
    yield from literal(cursor, "</function>")
    return [Call(name=name, arguments=arguments)]


def named(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A name, and arguments after a mark of their own; or the array of older models."""
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "[":
        return (yield from marked("", cursor, marker))
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


def identified(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls with an identifier, a name and arguments each, as Solar writes them."""
    calls: list[Call] = []
    end = "<|calls|>"
    while True:
        yield from spaces(cursor)
        begun = yield from literal(cursor, "<|tool_call:begin|>", *([end] if calls else []))
        if begun == end:
            return calls
        call_id = yield from run_of(cursor, _CALL_ID)
        yield from literal(cursor, "<|tool_call:name|>")
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        yield from literal(cursor, "<|tool_call:args|>")
        yield from spaces(cursor)
        arguments = yield from json_text(cursor, opening="{")
        yield from spaces(cursor)
        yield from literal(cursor, "<|tool_call:end|>")
        calls.append(Call(name=name, arguments=arguments, id=call_id or None))


def listed_actions(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A block of code with a list of actions, as Command R+ writes them.

    The one that says there is nothing to call is none, and stays text.
    """
    yield from spaces(cursor)
    yield from literal(cursor, "```json")
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    yield from spaces(cursor)
    yield from literal(cursor, "```")
    calls = read_calls(text, name="tool_name", arguments=("parameters",))
    if any(call.name in ("directly-answer", "directly_answer") for call in calls):
        raise Mismatch
    return calls


def action(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """The calls of an action, as Command models write them.

    They are numbered anew in each answer: the core gives them identifiers.
    """
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    yield from spaces(cursor)
    yield from literal(cursor, "<|END_ACTION|>")
    return read_calls(text, name="tool_name", arguments=("parameters",), ignored=("tool_call_id",))
