"""Calls whose arguments stand between tags, each with its name, and without quotes around text.

Qwen3-Coder began it::

    <tool_call>
    <function=save>
    <parameter=text>
    Some words.
    </parameter>
    </function>
    </tool_call>

Source: the chat templates of Qwen/Qwen3-Coder-30B-A3B-Instruct, zai-org/GLM-4.6 and GLM-4.7-Flash,
ByteDance-Seed/Seed-OSS-36B-Instruct, MiniMaxAI/MiniMax-M2, deepseek-ai/DeepSeek-V3.2,
openbmb/MiniCPM5-1B and moonshotai/Kimi-K3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from jarvis_core.errors import RequestError
from jarvis_core.grammar import (
    CallArguments,
    CallName,
    CallPattern,
    CallSyntax,
    Grammar,
    calls_are_constrained,
)
from jarvis_core.parsing import Call
from jarvis_core.rendering import tojson
from jarvis_core.scanning import (
    Cursor,
    Mismatch,
    Scan,
    json_text,
    literal,
    peek,
    pieces_until,
    run_of,
    spaces,
    text_until,
)
from jarvis_core.structs import ChatRequest, Tool, ToolCallDelta
from jarvis_core.template.argument_types import (
    ANY,
    TEXT,
    argument_json,
    argument_schema,
    enforced_schema,
    is_plain,
    types_of,
)
from jarvis_core.text_patterns import TEXT_LIMITS, text_patterns

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_NUMBER = re.compile(r"[0-9]*")
_OTHER_KEY = "[A-Za-z_][A-Za-z0-9_-]{0,63}"


@frozen(kw_only=True)
class TaggedCalls:
    """How a family writes such calls. Line breaks in these texts may be missing in an answer.

    Attributes:
        before: What stands before the first call, where all calls stand between two tags.
        opening: What a call begins with.
        number: What stands between the name of its function and the number of the call, if it has
            one.
        after_name: What stands behind the name, or the number.
        key: What an argument begins with.
        after_key: What stands behind its name.
        flags: One of these words comes then: the first says that it is a string.
        value: What stands before its value; a line break where it stands in lines of its own.
        after_value: What stands behind it.
        quotes: What a text stands between that holds ``<``, ``&`` or a line break.
        closing: What a call ends with.
        between: What stands between two calls.
        after: What stands behind the last call, where all stand between two tags.
        marker: What no other text holds, at the beginning of ``before`` or ``opening``.
        short_marker: The same, at the end of ``opening``, where a model has left out the outer tag.
    """

    before: str = ""
    opening: str
    number: str = ""
    after_name: str = "\n"
    key: str
    after_key: str
    flags: tuple[str, ...] = ()
    value: str = ""
    after_value: str
    quotes: tuple[str, str] | None = None
    closing: str
    between: str = "\n"
    after: str = ""
    marker: str = field()
    short_marker: str = ""

    @property
    def end(self) -> str:
        """What ends a text: a line break behind it may be missing where a model has a say."""
        return self.after_value.rstrip("\n")

    @property
    def syntax(self) -> CallSyntax:
        """The same for grammars, and for calls of past turns."""
        arguments = CallArguments(write=self._expression, text=self._written)
        number = (self.number, CallPattern("[0-9]{1,2}")) if self.number else ()
        return CallSyntax(
            before=self.before,
            call=(self.opening, CallName(), *number, self.after_name, arguments, self.closing),
            between=self.between,
            after=self.after,
            marker=self.marker,
        )

    def scan(self, request: ChatRequest) -> Callable[[Cursor, str], Scan[Sequence[Call]]]:
        """What reads the calls in the answer to a request."""
        tools = {tool.name: tool for tool in request.tools}
        streams = calls_are_constrained(request)

        def scan(cursor: Cursor, marker: str) -> Scan[Sequence[Call]]:
            is_short = marker == self.short_marker
            if not is_short:
                yield from _loosely(cursor, (self.before + self.opening).removeprefix(marker))
            calls: list[Call] = []
            while True:
                reading = _Reading(self, tools, len(calls), streams=streams)
                calls.append((yield from reading.call(cursor, is_short=is_short)))
                if not self.after:
                    break
                yield from spaces(cursor)
                opening, *rest = _lines(self.opening)
                if (yield from literal(cursor, opening, self.after)) == self.after:
                    break
                yield from _loosely(cursor, "\n".join(rest))
            return () if streams else calls

        return scan

    def _written(self, arguments: str) -> str:
        """The arguments of a past call."""
        members = json.loads(arguments)
        if not isinstance(members, dict):
            return arguments
        return "".join(
            "".join((self.key, name, self.after_key, self._flag(value)))
            + self.value
            + (self._quoted(value) if isinstance(value, str) else tojson(value))
            + self.after_value
            for name, value in members.items()
        )

    def _quoted(self, text: str) -> str:
        return text.join(self.quotes) if self.quotes and re.search(r"[<&\n]", text) else text

    def _flag(self, value: Any) -> str:
        if len(self.flags) < 2:
            return ""
        name = _FLAGS[type(value)]
        return name if name in self.flags else self.flags[name != "string"]

    # -- grammars ------------------------------------------------------------------------------

    def _expression(self, grammar: Grammar, tool: Tool) -> str:
        """The expression of the arguments of a tool, in the order of its schema.

        Raises:
            RequestError: The tool is strict and its schema says what cannot be enforced.
        """
        parameters = tool.parameters
        properties = parameters.get("properties") or {}
        required = [str(name) for name in parameters.get("required") or ()]
        if tool.strict and not is_plain(
            parameters, "properties", "required", "additionalProperties"
        ):
            raise _not_enforced(tool)
        names = [*properties, *(name for name in required if name not in properties)]
        expressions = []
        for name in names:
            key = grammar.text(self.key + name + self.after_key)
            argument = grammar.rule("argument", f"{key} {self._value(grammar, tool, name)}")
            expressions.append(argument if name in required else f"({argument})?")
        if not names and parameters.get("additionalProperties", "properties" not in parameters):
            key = f"{grammar.text(self.key)} {grammar.regex(_OTHER_KEY)}"
            value = self._value(grammar, tool, "")
            expressions.append(f"({key} {grammar.text(self.after_key)} {value})*")
        return " ".join(expressions)

    def _value(self, grammar: Grammar, tool: Tool, name: str) -> str:
        """The expression of a value, and of what stands before and behind it."""
        schema = enforced_schema(tool, name)
        is_bare = self.is_bare(schema)
        end = grammar.text(self.after_value)
        flags = self.flags[:1] if is_bare else self.flags[1:]
        flag = grammar.one_of([grammar.text(word) for word in flags]) if flags else ""
        start = f"{flag} {grammar.text(self.value)}"
        if not is_bare:
            return f"{start} {grammar.json(schema)} {end}"
        if given := [schema["const"]] if "const" in schema else schema.get("enum"):
            texts = [grammar.text(text) or _EMPTY for text in given]
            return f"{start} {grammar.one_of(texts)} {end}"
        patterns = text_patterns(schema) if tool.strict else []
        if patterns is None or (tool.strict and not is_plain(schema, *TEXT_LIMITS)):
            raise _not_enforced(tool)
        rest = grammar.text(self.after_value[len(self.end) :])
        return f"{start} {grammar.until(self.end, matching=patterns)} {rest}"

    def is_bare(self, schema: Mapping[str, Any]) -> bool:
        """Whether a grammar has the value written as it is, not as JSON."""
        types = types_of(schema)
        if types == TEXT:
            return True
        return types == _TEXT_OR_NULL and is_plain(schema) and not self.flags


_FLAGS = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}
_TEXT_OR_NULL = TEXT | {"null"}
_EMPTY = '""'
_PLAIN = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")


def _not_enforced(tool: Tool) -> RequestError:
    return RequestError(
        f"the arguments of {tool.name!r} cannot be held to their schema in this model's syntax of "
        "calls: leave out strict, or what is said of strings beside enum, const, their length and "
        "plain patterns",
        param="tools",
    )


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def _loosely(cursor: Cursor, text: str) -> Scan[None]:
    """Read a text, with or without its line breaks."""
    for line in _lines(text):
        yield from spaces(cursor)
        yield from literal(cursor, line)


def _json_value(cursor: Cursor) -> Scan[str]:
    """A JSON value that a grammar made; its end may be within its strings."""
    first = yield from peek(cursor)
    if first in "{[":
        return (yield from json_text(cursor))
    if first != '"':
        return (yield from run_of(cursor, _SCALAR))
    cursor.pos += 1
    pieces = [first]
    while True:
        pieces.append((yield from run_of(cursor, _PLAIN)))
        pieces.append((yield from peek(cursor)))
        cursor.pos += 1
        if pieces[-1] == '"':
            return "".join(pieces)
        pieces.append((yield from peek(cursor)))
        cursor.pos += 1


def _unquoted(
    pieces: Iterable[str | None], opening: str, closing: str
) -> Generator[str | None, None, None]:
    """A value in pieces, without the quotes that it may stand between."""
    held, quoted = "", None
    for piece in pieces:
        if piece is None:
            yield None
            continue
        held += piece
        if quoted is None:
            if len(held) < len(opening) and opening.startswith(held):
                continue
            quoted = held.startswith(opening)
            held = held.removeprefix(opening)
        begun = (n for n in range(len(closing), 0, -1) if held.endswith(closing[:n]))
        cut = len(held) - (next(begun, 0) if quoted else 0)
        if cut:
            yield held[:cut]
        held = held[cut:]
    if held := held.removesuffix(closing) if quoted else held:
        yield held


class _Reading:
    """Reads one call, and gives its pieces if it is sure to be one."""

    def __init__(
        self, syntax: TaggedCalls, tools: Mapping[str, Tool], index: int, *, streams: bool
    ) -> None:
        self._syntax = syntax
        self._tools = tools
        self._index = index
        self._streams = streams
        self._arguments: list[str] = []
        # What a grammar made ends as it is written; a model of its own forgets a line break.
        self._end = syntax.end if streams else _lines(syntax.after_value)[0]

    def call(self, cursor: Cursor, *, is_short: bool) -> Scan[Call]:
        """The call, from its name on."""
        syntax = self._syntax
        yield from spaces(cursor)
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        if syntax.number:
            yield from literal(cursor, syntax.number)
            yield from run_of(cursor, _NUMBER)
        yield from _loosely(cursor, syntax.after_name)
        if self._streams:
            yield ToolCallDelta(index=self._index, name=name)
        closing, *rest = _lines(syntax.closing)
        before = "{"
        while True:
            yield from spaces(cursor)
            if (yield from literal(cursor, syntax.key, closing)) == closing:
                break
            yield from self._argument(cursor, self._tools.get(name), before)
            before = ", "
        if not is_short:
            yield from _loosely(cursor, "\n".join(rest))
        yield from self._give("{}" if before == "{" else "}")
        return Call(name=name, arguments="".join(self._arguments))

    def _argument(self, cursor: Cursor, tool: Tool | None, before: str) -> Scan[None]:
        syntax = self._syntax
        key = yield from text_until(cursor, syntax.after_key)
        schema = argument_schema(tool, key)
        types, is_bare = types_of(schema), syntax.is_bare(schema)
        if syntax.flags:
            is_bare = (yield from literal(cursor, *syntax.flags)) == syntax.flags[0]
            types = TEXT if is_bare else ANY
        if not self._streams:
            yield from _loosely(cursor, syntax.value)
        elif syntax.value:
            yield from literal(cursor, syntax.value)
        yield from self._give(f"{before}{tojson(key)}: ")
        if self._streams and not is_bare:
            yield from self._give((yield from _json_value(cursor)))
            yield from literal(cursor, syntax.after_value)
            return
        if types == TEXT:
            yield from self._give('"')
        pieces = []
        for piece in self._value(cursor):
            if piece is None:
                yield None
            elif types == TEXT:
                yield from self._give(tojson(piece)[1:-1])
            else:
                pieces.append(piece)
        if self._streams and (rest := syntax.after_value[len(syntax.end) :]):
            yield from literal(cursor, rest)
        yield from self._give('"' if types == TEXT else argument_json("".join(pieces), types))

    def _value(self, cursor: Cursor) -> Generator[str | None, None, None]:
        """A value in pieces, without the line breaks around lines of its own."""
        pieces = pieces_until(cursor, self._end)
        if (quotes := self._syntax.quotes) is not None:
            if not self._streams:  # what a grammar made ends sooner
                pieces = self._with_ends(cursor, quotes)
            yield from _unquoted(pieces, *quotes)
            return
        if self._streams or self._syntax.value != "\n":
            yield from pieces
            return
        begun, line_break = False, ""
        for piece in pieces:
            if piece is None:
                yield None
                continue
            if not begun:
                piece = piece.removeprefix("\n")
            begun, piece = True, line_break + piece
            line_break = "\n" if piece.endswith("\n") else ""
            yield piece.removesuffix("\n")

    def _with_ends(
        self, cursor: Cursor, quotes: tuple[str, str]
    ) -> Generator[str | None, None, None]:
        """A value with the ends in it that stand between quotes."""
        texts: list[str] = []
        while True:
            pieces = []
            for piece in pieces_until(cursor, self._end):
                if piece is None:
                    yield None
                else:
                    pieces.append(piece)
            texts.append("".join(pieces))
            if not texts[0].startswith(quotes[0]) or texts[-1].endswith(quotes[1]):
                yield self._end.join(texts)
                return

    def _give(self, text: str) -> Scan[None]:
        if self._streams:
            yield ToolCallDelta(index=self._index, arguments=text)
        else:
            self._arguments.append(text)
