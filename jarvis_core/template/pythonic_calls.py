"""Calls written as in Python: ``[save(text='Some words.', tags=["a"]), now()]``.

Values have types of their own. Strings may hold line breaks, which some templates print as they
are.
Source: the chat templates of LiquidAI/LFM2-8B-A1B and LFM2.5-8B-A1B, and
https://docs.liquid.ai/lfm/key-concepts/tool-use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from attrs import frozen

from jarvis_core.errors import RequestError
from jarvis_core.grammar import CallArguments, CallName, CallSyntax, Grammar, calls_are_constrained
from jarvis_core.parsing import Call
from jarvis_core.rendering import tojson
from jarvis_core.scanning import Cursor, Mismatch, Scan, literal, peek, run_of, spaces
from jarvis_core.structs import ChatRequest, Tool, ToolCallDelta
from jarvis_core.template.argument_types import enforced_schema, is_plain

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_KEY = re.compile(r"[^\s=:,()\[\]{}'\"]*")
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_TEXT = {quote: re.compile(rf"[^{quote}\\]*") for quote in "'\""}
_HEX = re.compile(r"[0-9A-Fa-f]*")
_WORDS = {
    "True": "true",
    "False": "false",
    "None": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "/": "/",
    "\n": "",
}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_MAX_DEPTH = 64


@frozen(kw_only=True)
class PythonicCalls:
    """Such calls, and what stands around them.

    Attributes:
        before: What stands before them.
        after: What stands behind them.
        in_lines: Whether each has a line of its own; else they are a list.
    """

    before: str = ""
    after: str = ""
    in_lines: bool = False

    @property
    def syntax(self) -> CallSyntax:
        """The same for grammars, and for calls of past turns."""
        arguments = CallArguments(write=_expression, text=_printed)
        return CallSyntax(
            before=f"{self.before}\n" if self.in_lines else f"{self.before}[",
            call=("", CallName(), "(", arguments, ")"),
            between="\n" if self.in_lines else ", ",
            after=f"\n{self.after}" if self.in_lines else f"]{self.after}",
            marker=self.before,
        )

    def scan(self, request: ChatRequest) -> Callable[[Cursor, str], Scan[Sequence[Call]]]:
        """What reads the calls in the answer to a request."""
        streams = calls_are_constrained(request)

        def scan(cursor: Cursor, marker: str) -> Scan[Sequence[Call]]:
            yield from spaces(cursor)
            if not self.in_lines:
                yield from literal(cursor, "[")
            calls: list[Call] = []
            while True:
                yield from spaces(cursor)
                calls.append((yield from _Reading(len(calls), streams=streams).call(cursor)))
                if self.in_lines:
                    yield from spaces(cursor)
                    if (yield from peek(cursor)) == self.after[0]:
                        break
                elif (yield from _separator(cursor, "]")) == "]":
                    break
            if self.after and marker:
                yield from spaces(cursor)
                yield from literal(cursor, self.after)
            return () if streams else calls

        return scan


# -- writing -----------------------------------------------------------------------------------


def _printed(arguments: str) -> str:
    """The arguments of a past call."""
    members = json.loads(arguments)
    if not isinstance(members, dict):
        return arguments
    return ", ".join(f"{key}={_python(value)}" for key, value in members.items())


def _python(value: Any) -> str:
    """A value of JSON as in Python; quotes as JSON has them, whose escapes Python shares."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{tojson(k)}: {_python(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return tojson(value) if isinstance(value, str) else str(value)


def _expression(grammar: Grammar, tool: Tool) -> str:
    """The expression of the arguments of a tool, in the order of its schema.

    Raises:
        RequestError: The tool is strict and says more than names and types, or a name of an
            argument has no place between a comma and an equals sign.
    """
    parameters = tool.parameters
    given = parameters.get("properties")
    properties = dict(given) if isinstance(given, Mapping) else {}
    required = [str(name) for name in parameters.get("required") or ()]
    if tool.strict and not is_plain(parameters, "properties", "required", "additionalProperties"):
        raise _cannot_write(tool, "its schema")
    names = [*properties, *(name for name in required if name not in properties)]
    for name in names:
        if not name or not _KEY.fullmatch(name):
            raise _cannot_write(tool, f"an argument that is called {name!r}")
    if not names and parameters.get("additionalProperties", "properties" not in parameters):
        key = f'{grammar.regex("[A-Za-z_][A-Za-z0-9_]{0,63}")} "="'
        other = f"{key} {grammar.json(enforced_schema(tool, ''))}"
        return f'({other} (", " {other})*)?'
    first, more = "", ""
    for name in reversed(names):
        argument = f"{grammar.text(f'{name}=')} {_value(grammar, tool, name)}"
        argument = grammar.rule("argument", argument)
        begun = f"{argument} {more}"
        if name in required:
            first, more = begun, f'", " {argument} {more}'
        else:
            first = f"({begun} | {first})" if first else f"({begun})?"
            more = f'(", " {argument})? {more}'
        if more.strip():
            more = grammar.rule("more", more)
        first = grammar.rule("arguments", first)
    return first


def _value(grammar: Grammar, tool: Tool, name: str) -> str:
    schema = enforced_schema(tool, name)
    if schema.get("type") == "boolean" and is_plain(schema):
        return '("True" | "False")'
    return grammar.json(schema)


def _cannot_write(tool: Tool, what: str) -> RequestError:
    return RequestError(
        f"the arguments of {tool.name!r} cannot be held to {what} in this model's syntax of calls",
        param="tools",
    )


# -- reading -----------------------------------------------------------------------------------


class _Reading:
    """Reads one call, and gives its pieces if it is sure to be one."""

    def __init__(self, index: int, *, streams: bool) -> None:
        self._index = index
        self._streams = streams
        self._arguments: list[str] = []

    def call(self, cursor: Cursor) -> Scan[Call]:
        """The call, from its name on."""
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        yield from literal(cursor, "(")
        if self._streams:
            yield ToolCallDelta(index=self._index, name=name)
        before = "{"
        yield from spaces(cursor)
        while (yield from peek(cursor)) != ")":
            key = yield from run_of(cursor, _KEY)
            yield from spaces(cursor)
            yield from literal(cursor, "=")
            if not key:
                raise Mismatch
            yield from self._give(f"{before}{tojson(key)}: ")
            yield from self._value(cursor)
            before = ", "
            if (yield from _separator(cursor, ")")) == ")":
                break
            yield from spaces(cursor)
        else:
            cursor.pos += 1
        yield from self._give("{}" if before == "{" else "}")
        return Call(name=name, arguments="".join(self._arguments))

    def _value(self, cursor: Cursor) -> Scan[None]:
        yield from spaces(cursor)
        if (yield from peek(cursor)) not in _TEXT:
            yield from self._give((yield from _value_text(cursor, 0)))
            return
        yield from self._give('"')
        for piece in _string(cursor):
            if piece is None:
                yield None
            else:
                yield from self._give(tojson(piece)[1:-1])
        yield from self._give('"')

    def _give(self, text: str) -> Scan[None]:
        if self._streams:
            yield ToolCallDelta(index=self._index, arguments=text)
        else:
            self._arguments.append(text)


def _value_text(cursor: Cursor, depth: int) -> Scan[str]:
    """A value, as JSON text."""
    if depth > _MAX_DEPTH:
        raise Mismatch
    yield from spaces(cursor)
    first = yield from peek(cursor)
    if first in _TEXT:
        return tojson((yield from _string_text(cursor)))
    if first in "[({":
        closing = {"[": "]", "(": ")", "{": "}"}[first]
        return (yield from _items(cursor, closing, depth))
    word = yield from run_of(cursor, _WORD)
    if word not in _WORDS and not _NUMBER.fullmatch(word):
        raise Mismatch
    return _WORDS.get(word, word)


def _items(cursor: Cursor, closing: str, depth: int) -> Scan[str]:
    """A list, tuple or dictionary; a comma may stand behind its last item."""
    cursor.pos += 1
    items: list[str] = []
    while True:
        yield from spaces(cursor)
        if (yield from peek(cursor)) == closing:
            cursor.pos += 1
            break
        key = ""
        if closing == "}":
            key = tojson((yield from _string_text(cursor))) + ": "
            yield from spaces(cursor)
            yield from literal(cursor, ":")
        items.append(key + (yield from _value_text(cursor, depth + 1)))
        if (yield from _separator(cursor, closing)) == closing:
            break
    text = ", ".join(items)
    return f"{{{text}}}" if closing == "}" else f"[{text}]"


def _separator(cursor: Cursor, closing: str) -> Scan[str]:
    yield from spaces(cursor)
    return (yield from literal(cursor, ",", closing))


def _string_text(cursor: Cursor) -> Scan[str]:
    pieces = []
    for piece in _string(cursor):
        if piece is None:
            yield None
        else:
            pieces.append(piece)
    return "".join(pieces)


def _string(cursor: Cursor) -> Generator[str | None, None, None]:
    """What a string says, in pieces as they come; None in between."""
    while cursor.empty:
        yield None
    quote = cursor.text[cursor.pos]
    if quote not in _TEXT:
        raise Mismatch
    cursor.pos += 1
    while True:
        while cursor.empty:
            yield None
        found = _TEXT[quote].match(cursor.text, cursor.pos)
        if found and found[0]:
            cursor.pos = found.end()
            yield found[0]
        elif cursor.text[cursor.pos] == quote:
            cursor.pos += 1
            return
        else:
            cursor.pos += 1
            yield from _as_pieces(_escaped(cursor))


def _as_pieces(scan: Scan[str]) -> Generator[str | None, None, None]:
    """What a scan reads, as one piece."""
    text = yield from scan  # type: ignore[misc]
    yield text


def _escaped(cursor: Cursor) -> Scan[str]:
    """What stands behind a backslash, as Python and JSON mean it."""
    kind = yield from peek(cursor)
    cursor.pos += 1
    if kind not in _HEX_DIGITS:
        return _ESCAPES.get(kind, "\\" + kind)
    code = yield from _code(cursor, _HEX_DIGITS[kind])
    if 0xD800 <= code < 0xDC00:  # half of a pair, as JSON writes one
        yield from literal(cursor, "\\u")
        low = yield from _code(cursor, 4)
        if not 0xDC00 <= low < 0xE000:
            raise Mismatch
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise Mismatch
    return chr(code)


def _code(cursor: Cursor, digits: int) -> Scan[int]:
    text = ""
    while len(text) < digits:
        char = yield from peek(cursor)
        if not _HEX.fullmatch(char):
            raise Mismatch
        cursor.pos += 1
        text += char
    return int(text, 16)
