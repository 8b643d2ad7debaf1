r"""Grammars of tool calls: how a chat format makes a model answer in its own syntax.

A format says once how its model writes calls, and the grammar follows::

    CALLS = CallSyntax(
        call=(
            '<tool_call>\n{"name": "', CallName(),
            '", "arguments": ', CallArguments(), "}\n</tool_call>",
        ),
        between="\n",
        marker="<tool_call>",
    )


    class ChatML:
        def tool_grammar(self, request, context):
            return CALLS.forced(request, context.model)

        def parser(self, request, context, prompt):
            if not may_call_tools(request):
                return TextParser()
            scan = CALLS.scan if calls_are_constrained(request) else scan_call
            return CallParser(scan, markers=["<tool_call>"])

What the grammar makes a model write must be what the format's parser reads; the conformance kit
samples it. A syntax that pieces cannot tell is written with ``Grammar`` itself, in llguidance's
Lark dialect. Source: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md, 1.9.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from typing import Any

from attrs import field, frozen

from jarvis_core.errors import RequestError
from jarvis_core.json_scan import JsonScanner
from jarvis_core.json_schema import arguments_schema, bounded, compact
from jarvis_core.parsing import Call, may_call_tools
from jarvis_core.scanning import Cursor, Mismatch, Scan, literal, peek, run_of
from jarvis_core.structs import ChatRequest, Constraint, ModelInfo, Tool, ToolCall, ToolCallDelta

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_NAMED_TOKEN = re.compile(r"<[^<>\s\[\]]+>")  # the only ones that a grammar can name without an id


class Grammar:
    """Collects the rules of one Lark grammar.

    Its methods give expressions, which are put together with blanks (one after the other), ``|``,
    ``(…)``, ``?``, ``*`` and ``+``.
    """

    def __init__(self, model: ModelInfo) -> None:
        """Write for the control tokens of a model."""
        self._rules: dict[str, str] = {}
        self._tokens = _token_expressions(model)
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._splitter = (
            re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
            if longest_first
            else None
        )

    def text(self, text: str) -> str:
        """Exactly this text; what is a control token of the model in it is that token."""
        pieces = self._splitter.split(text) if self._splitter else [text]
        return " ".join(
            self._tokens[piece] if i % 2 else json.dumps(piece, ensure_ascii=False)
            for i, piece in enumerate(pieces)
            if piece
        )

    def json(self, schema: dict[str, Any], *, item: str = ", ", key: str = ": ") -> str:
        """A JSON value that obeys a schema.

        Args:
            schema: The schema; references in it start at its own root.
            item: What stands between members and items.
            key: What stands between key and value.
        """
        return self.rule("json", "%json " + compact(schema, item, key))

    def regex(self, pattern: str) -> str:
        """Text that a regular expression of Rust's regex crate matches from end to end."""
        return self.rule("regex", _regex(pattern))

    def until(self, text: str, *, matching: Sequence[str] = ()) -> str:
        """Any text up to and with the first occurrence of this one.

        Args:
            text: What ends it.
            matching: Regular expressions that all match what comes before, from end to end.
        """
        before, *rest = self._splitter.split(text) if self._splitter else [text]
        following = self.text("".join(rest))
        end = re.escape(before)
        if (
            matching
        ):  # nothing that was written as the end may come sooner, though no token be in it
            sooner = f"(?s:.*){re.escape(text)}(?s:.{'*' if rest else '+'})"
            wanted = [_regex(f"(?:{pattern}){end}") for pattern in matching]
            return f"{self.rule('TEXT', ' & '.join([*wanted, '~' + _regex(sooner)]))} {following}"
        if rest:  # no text holds a token: the first one is the end
            return f"{self.regex(f'(?s:.*){end}')} {following}"
        return self.rule("until", _regex(f"(?s:.*){end}"), lazy=True)

    def any_text(self) -> str:
        """Any text, control tokens excluded."""
        return self.regex("(?s:.*)")

    def one_of(self, expressions: Sequence[str]) -> str:
        """One of some expressions."""
        return expressions[0] if len(expressions) == 1 else "(" + " | ".join(expressions) + ")"

    def part(self, constraint: Constraint) -> str:
        """What another constraint allows, as a part of this grammar."""
        match constraint.kind:
            case "lark":
                return self.rule("part", "%lark {\n" + constraint.value + "\n}")
            case "json_schema":
                return self.rule("part", "%json " + bounded(json.loads(constraint.value)))
            case "regex":
                return self.regex(constraint.value)
            case "choice":
                return self.one_of([json.dumps(c) for c in json.loads(constraint.value)])

    def rule(self, name: str, body: str, *, lazy: bool = False) -> str:
        """A rule of its own for an expression; the same expression shares one.

        Args:
            name: What the rule is called, with a number behind it.
            body: Its expression.
            lazy: Whether it matches as little as possible; the body is a terminal then.
        """
        body = ("[lazy]: " if lazy else ": ") + body
        return self._rules.setdefault(body, f"{name}_{len(self._rules)}")

    def build(self, start: str) -> Constraint:
        """The constraint: an answer is what this expression allows."""
        rules = [f"start: {start}", *(name + body for body, name in self._rules.items())]
        return Constraint(kind="lark", value="\n".join(rules) + "\n")


# -- what a call is made of --------------------------------------------------------------------


@frozen
class CallName:
    """Where a call has the name of its function."""


@frozen(kw_only=True)
class CallArguments:
    """Where a call has its arguments, a JSON object.

    Attributes:
        item: What the model's publisher prints between members and items.
        key: What it prints between key and value.
        write: For arguments that are no JSON: gives their expression. ``CallSyntax.scan`` cannot
            read them.
        text: For the same: how given arguments, a JSON text, are written.
    """

    item: str = ", "
    key: str = ": "
    write: Callable[[Grammar, Tool], str] | None = None
    text: Callable[[str], str] | None = None

    def written(self, arguments: str) -> str:
        """The arguments of a call, as its model writes them."""
        return self.text(arguments or "{}") if self.text else arguments or "{}"


@frozen
class CallPattern:
    """Where a call has text that means nothing to others, as an identifier.

    Attributes:
        regex: What it matches.
    """

    regex: str


Piece = str | CallName | CallArguments | CallPattern
"""A piece of a call; a string stands for itself."""


@frozen(kw_only=True)
class CallSyntax:
    """How a model writes calls of tools whose arguments are JSON.

    Attributes:
        call: The pieces of one call: text, ``CallName()``, text, ``CallArguments()``, and text.
        before: What stands before the first call.
        between: What stands between two calls; None where an answer has one call at most.
        after: What stands after the last call.
        marker: Text at the beginning of ``before`` and ``call`` that no other text holds. Empty:
            an answer is a call if it begins with the first character of one.
    """

    call: tuple[Piece, ...] = field()
    before: str = ""
    between: str | None = None
    after: str = ""
    marker: str = ""

    @call.validator
    def _check(self, _: Any, call: tuple[Piece, ...]) -> None:
        kinds = [type(piece) for piece in call]
        if (kinds.count(CallName), kinds.count(CallArguments)) != (1, 1) or kinds[:1] != [str]:
            raise ValueError("a call begins with text and has one name and one object of arguments")
        if kinds.index(CallName) > kinds.index(CallArguments):
            raise ValueError("the name of a call comes before its arguments")
        if any(a is not str and b is not str for a, b in pairwise(kinds)):
            raise ValueError("there has to be text between two pieces of a call")

    def __attrs_post_init__(self) -> None:
        if not self._opening.startswith(self.marker):
            raise ValueError(f"a call has to begin with its marker {self.marker!r}")

    @property
    def _opening(self) -> str:
        """The text that every answer with calls begins them with."""
        return self.before + str(self.call[0])

    def written(self, calls: Sequence[ToolCall], own: Callable[[str], str] = str) -> str:
        """Calls as the model writes them.

        Args:
            calls: The calls.
            own: What becomes of the texts of the syntax.
        """
        texts = (
            "".join(own(p) if isinstance(p, str) else _written(p, call) for p in self.call)
            for call in calls
        )
        between = own("\n" if self.between is None else self.between)
        return own(self.before) + between.join(texts) + own(self.after)

    def forced(self, request: ChatRequest, model: ModelInfo) -> Constraint:
        """The constraint of an answer that is a call, or several where the request allows it."""
        grammar = Grammar(model)
        return grammar.build(f"{grammar.text(self._opening)} {self._calls(grammar, request)}")

    def optional(
        self, request: ChatRequest, model: ModelInfo, before_content: str = ""
    ) -> Constraint:
        """The constraint of an answer that is text, or calls, perhaps with text before them.

        Args:
            request: The request.
            model: For its control tokens.
            before_content: What the model writes before text; with it, calls come without text.
        """
        grammar = Grammar(model)
        calls = self._calls(grammar, request)
        rest = grammar.text(self._opening[len(self.marker) :])
        if before_content:
            text = f"{grammar.text(before_content)} {grammar.any_text()}"
            return grammar.build(f"{text} | {grammar.text(self._opening)} {calls}")
        if self.marker:
            return grammar.build(
                f"{grammar.any_text()} | {grammar.until(self.marker)} {rest} {calls}"
            )
        first = re.escape(self._opening[0])
        text = grammar.regex(rf"\s*([^\s;{first}](?s:.*))?")
        return grammar.build(f"{text} | {rest} {calls}")

    def _calls(self, grammar: Grammar, request: ChatRequest) -> str:
        """The expression of what follows after the opening."""
        tools = [t for t in request.tools if request.tool_choice.name in (None, t.name)]
        if not tools:
            raise RequestError("there is no such tool to call", param="tool_choice")
        rest = grammar.one_of([self._after_opening(grammar, tool) for tool in tools])
        after = grammar.text(self.after)
        single = self.between is None or not request.parallel_tool_calls
        if single or request.tool_choice.mode == "named":
            return f"{rest} {after}"
        again = grammar.text(f"{self.between}{self.call[0]}")
        return f"{rest} ({again} {rest})* {after}"

    def _after_opening(self, grammar: Grammar, tool: Tool) -> str:
        """A rule for a call of one tool, but for the text that all calls begin with."""
        written = " ".join(_expression(piece, grammar, tool) for piece in self.call[1:])
        return grammar.rule("call", written)

    def scan(self, cursor: Cursor, marker: str) -> Scan[Sequence[Call]]:
        """Read calls that a constraint made, and give their pieces as soon as they have come.

        For ``CallParser``; what was not written under the constraint may not be read so: a part
        of a call that was given cannot be taken back.
        """
        yield from _exactly(cursor, self._opening.removeprefix(marker))
        for index in count():
            yield from self._scan_call(cursor, index)
            if not (self.before or self.after):
                return ()  # CallParser finds the next one by its marker
            again = f"{self.between}{self.call[0]}"
            options = [self.after] if self.between is None else [self.after, again]
            if not self.after or (yield from literal(cursor, *options)) == self.after:
                return ()
        raise AssertionError("unreachable")

    def _scan_call(self, cursor: Cursor, index: int) -> Scan[None]:
        """Read a call, its first text excepted."""
        for piece, following in zip(self.call[1:], (*self.call[2:], ""), strict=True):
            match piece:
                case str():
                    yield from _exactly(cursor, piece)
                case CallName():
                    name = yield from run_of(cursor, _NAME)
                    yield ToolCallDelta(index=index, name=name)
                case CallArguments():
                    yield from _object_pieces(cursor, index)
                case CallPattern():
                    yield from _up_to(cursor, str(following)[0])


@frozen(kw_only=True)
class AnswerSyntax:
    """How a model writes a whole answer, so that a constraint can govern a part of it.

    Attributes:
        opening: What reasoning begins with; empty where the answer has none. If the prompt says
            that it ``starts_in_reasoning``, the model does not write it.
        closing: What reasoning ends with.
        before_content: What a model writes before the text of its answer.
        calls: How it writes calls of tools; None where a constraint cannot tell.
    """

    opening: str = ""
    closing: str = ""
    before_content: str = ""
    calls: CallSyntax | None = None


def calls_are_constrained(request: ChatRequest) -> bool:
    """Whether the core sees to it that calls of this request are written by the grammar."""
    return may_call_tools(request) and (
        request.tool_choice.forced
        or not request.parallel_tool_calls
        or request.constraint is not None
        or any(tool.strict for tool in request.tools)
    )


# -- parts -----------------------------------------------------------------------------------


def _regex(pattern: str) -> str:
    """A regular expression as a Lark grammar holds it."""
    return "/" + re.sub(r"(?s)(\\.)|/|\n", _escaped, pattern) + "/"


def _escaped(found: re.Match[str]) -> str:
    return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0])


def _token_expressions(model: ModelInfo) -> dict[str, str]:
    """How each control token of a model is written in a grammar."""
    tokens = [token for token in model.control_tokens if token]
    if len(model.control_token_ids) == len(model.control_tokens):
        by_text = zip(model.control_tokens, model.control_token_ids, strict=True)
        return {token: f"<[{token_id}]>" for token, token_id in by_text if token}
    return {token: token for token in tokens if _NAMED_TOKEN.fullmatch(token)}


def _expression(piece: Piece, grammar: Grammar, tool: Tool) -> str:
    match piece:
        case str():
            return grammar.text(piece)
        case CallName():
            return grammar.text(tool.name)
        case CallArguments(write=write) if write is not None:
            return write(grammar, tool)
        case CallArguments(item=item, key=key):
            schema = arguments_schema(tool.parameters, strict=tool.strict)
            return grammar.json(schema, item=item, key=key)
        case CallPattern(regex):
            return grammar.regex(regex)


def _written(piece: Piece, call: ToolCall) -> str:
    match piece:
        case CallName():
            return call.name
        case CallArguments():
            return piece.written(call.arguments)
        case _:
            return ""


def _exactly(cursor: Cursor, text: str) -> Scan[None]:
    if text:
        yield from literal(cursor, text)


def _up_to(cursor: Cursor, char: str) -> Scan[None]:
    while (yield from peek(cursor)) != char:
        cursor.pos += 1


def _object_pieces(cursor: Cursor, index: int) -> Scan[None]:
    """Give the text of a JSON object as it comes."""
    scanner = JsonScanner(opening="{")
    while not scanner.done:
        yield from peek(cursor)
        start = cursor.pos
        cursor.pos = scanner.feed(cursor.text, start)
        if scanner.broken:
            raise Mismatch
        yield ToolCallDelta(index=index, arguments=cursor.text[start : cursor.pos])
