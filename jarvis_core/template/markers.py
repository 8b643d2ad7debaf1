"""How models answer whose template holds a known marker: their calls of tools and their reasoning.

A template prints past calls and thoughts as the model writes new ones, so what it marks them with
says how to read answers. Only markers are known here, no models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from attrs import frozen

from jarvis_core.grammar import (
    AnswerSyntax,
    CallArguments,
    CallName,
    CallSyntax,
    calls_are_constrained,
)
from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import Call, CallParser, TextParser, may_call_tools, read_call, read_calls
from jarvis_core.reasoning import ReasoningParser, continues_reasoning
from jarvis_core.scanning import Cursor, Mismatch, Scan, json_text, literal, peek, run_of, spaces
from jarvis_core.structs import ChatRequest, Prompt

_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_KEYS = ("arguments", "parameters")

REASONING = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
)
"""What reasoning stands between."""


@frozen(kw_only=True)
class CallStyle:
    """One way to write calls.

    Attributes:
        needs: Texts that a template holds whose model writes so.
        lacks: Texts that it does not hold.
        scan: Reads calls after the marker.
        syntax: The same for the grammar of calls; its marker is what begins one.
        tags: Further markers.
        bare: Characters that begin a call without a marker where an answer begins.
        id_length: Characters of an identifier that the templates print; 0 where any will do.
    """

    needs: tuple[str, ...]
    scan: Callable[[Cursor, str], Scan[Sequence[Call]]]
    syntax: CallSyntax
    lacks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    bare: str = ""
    id_length: int = 0

    def fits(self, template: str) -> bool:
        """Whether the model of a template writes so."""
        return all(text in template for text in self.needs) and not any(
            text in template for text in self.lacks
        )

    def parser(self, request: ChatRequest) -> DeltaParser:
        """A parser of one answer."""
        scan = self.syntax.scan if calls_are_constrained(request) else self.scan
        markers = [m for m in (self.syntax.marker, *self.tags) if m]
        make_id = partial(_make_id, self.id_length, len(request.messages))
        return CallParser(
            scan, markers=markers, bare=self.bare, make_id=make_id if self.id_length else None
        )


@frozen(kw_only=True)
class Markers:
    """What is known about the answers to one template.

    Attributes:
        calls: How calls are written; None where that is not known.
        reasoning: What reasoning stands between; None where the template prints none.
    """

    calls: CallStyle | None = None
    reasoning: tuple[str, str] | None = None

    def opens_reasoning(self, prompt: str, request: ChatRequest) -> bool:
        """Whether the prompt of a request ends inside of reasoning that it has opened."""
        if self.reasoning is None:
            return False
        opening, closing = self.reasoning
        if request.continue_final_message:
            return continues_reasoning(request, opening=opening, closing=closing)
        return request.add_generation_prompt and prompt.rstrip().endswith(opening)

    def parser(self, request: ChatRequest, prompt: Prompt) -> DeltaParser:
        """A parser of one answer."""
        answer: DeltaParser = TextParser()
        if self.calls is not None and may_call_tools(request):
            answer = self.calls.parser(request)
        if self.reasoning is None:
            return answer
        opening, closing = self.reasoning
        return ReasoningParser(
            answer, opening=opening, closing=closing, inside=prompt.starts_in_reasoning
        )

    def syntax(self, prompt: Prompt) -> AnswerSyntax:
        """The same for constraints."""
        calls = self.calls.syntax if self.calls else None
        if self.reasoning is None or prompt.text.rstrip().endswith(self.reasoning[1]):
            return AnswerSyntax(calls=calls)
        opening, closing = self.reasoning
        return AnswerSyntax(opening=opening, closing=closing, calls=calls)


@lru_cache(maxsize=32)  # one for each loaded model
def markers_of(template: str) -> Markers:
    """The known markers in a template."""
    return Markers(
        calls=next((style for style in STYLES if style.fits(template)), None),
        reasoning=next((marks for marks in REASONING if marks[1] in template), None),
    )


def _make_id(length: int, turn: int, index: int, name: str) -> str:
    """An identifier that no other call of a conversation has."""
    return hashlib.sha256(f"{turn} {index} {name}".encode()).hexdigest()[:length]


# -- scans -----------------------------------------------------------------------------------


def _tagged(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON object between tags."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="{")
    yield from spaces(cursor)
    yield from literal(cursor, "</tool_call>")
    return [read_call(text, arguments=_KEYS)]


def _bare(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON object without an end of its own."""
    yield from spaces(cursor)
    keys = frozenset({"name", "id", "type", *_KEYS})
    text = yield from json_text(cursor, opening="{", keys=keys)
    return [read_call(text, arguments=_KEYS)]


def _listed(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON array of calls."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    return read_calls(text, arguments=_KEYS)


def _listed_in_tags(closing: str, cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A JSON array of calls, and a closing tag."""
    calls = yield from _listed(cursor, marker)
    yield from spaces(cursor)
    yield from literal(cursor, closing)
    return calls


def _named(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A name, and arguments after a mark of their own; or the array of older models."""
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "[":
        return (yield from _listed(cursor, marker))
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


_FENCED = ("\n```json\n", "\n```<｜tool▁call▁end｜>")


def _another(cursor: Cursor) -> Scan[bool]:
    """Whether one more call begins, in a list of them that DeepSeek's models write."""
    yield from spaces(cursor)
    begun = yield from literal(cursor, "<｜tool▁call▁begin｜>", "<｜tool▁calls▁end｜>")
    return begun == "<｜tool▁call▁begin｜>"


def _fenced(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls whose arguments stand in a block of code."""
    calls: list[Call] = []
    while (yield from _another(cursor)):
        yield from literal(cursor, "function<｜tool▁sep｜>")
        if not (name := (yield from run_of(cursor, _NAME))):
            raise Mismatch
        yield from literal(cursor, _FENCED[0])
        arguments = yield from json_text(cursor, opening="{")
        yield from literal(cursor, _FENCED[1])
        calls.append(Call(name=name, arguments=arguments))
    return calls


def _separated(cursor: Cursor, marker: str) -> Scan[list[Call]]:
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


# -- styles ----------------------------------------------------------------------------------

_OBJECT = ('{"name": "', CallName(), '", "arguments": ', CallArguments(), "}")


def _list_between(opening: str, closing: str, *needs: str) -> CallStyle:
    """A JSON array of calls between two tags."""
    return CallStyle(
        needs=(opening, closing, *needs),
        scan=partial(_listed_in_tags, closing),
        syntax=CallSyntax(
            before=f"{opening}[", call=_OBJECT, between=", ", after=f"]{closing}", marker=opening
        ),
    )


STYLES = (
    _list_between("<tool_calls>", "</tool_calls>", "<tool_calls>["),
    _list_between("<TOOLCALL>", "</TOOLCALL>", "<TOOLCALL>["),
    CallStyle(
        needs=("<tool_call>", "arguments"),
        lacks=("<function=", "<arg_key>", "<invoke "),
        scan=_tagged,
        syntax=CallSyntax(
            call=(f"<tool_call>\n{_OBJECT[0]}", *_OBJECT[1:4], "}\n</tool_call>"),
            between="\n",
            marker="<tool_call>",
        ),
    ),
    CallStyle(
        needs=("[TOOL_CALLS]", "[ARGS]"),
        scan=_named,
        id_length=9,
        syntax=CallSyntax(
            call=("[TOOL_CALLS]", CallName(), "[ARGS]", CallArguments()),
            between="",
            marker="[TOOL_CALLS]",
        ),
    ),
    CallStyle(
        needs=("[TOOL_CALLS]",),
        scan=_named,
        id_length=9,
        syntax=CallSyntax(
            before="[TOOL_CALLS][", call=_OBJECT, between=", ", after="]", marker="[TOOL_CALLS]"
        ),
    ),
    CallStyle(
        needs=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"),
        lacks=("```json",),
        scan=_separated,
        syntax=CallSyntax(
            before="<｜tool▁calls▁begin｜>",
            call=(
                "<｜tool▁call▁begin｜>",
                CallName(),
                "<｜tool▁sep｜>",
                CallArguments(),
                "<｜tool▁call▁end｜>",
            ),
            between="",
            after="<｜tool▁calls▁end｜>",
            marker="<｜tool▁calls▁begin｜>",
        ),
    ),
    CallStyle(
        needs=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "```json"),
        scan=_fenced,
        syntax=CallSyntax(
            before="<｜tool▁calls▁begin｜>",
            call=(
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                CallName(),
                _FENCED[0],
                CallArguments(),
                _FENCED[1],
            ),
            between="\n",
            after="<｜tool▁calls▁end｜>",
            marker="<｜tool▁calls▁begin｜>",
        ),
    ),
    _list_between("<|tool_call|>", "<|/tool_call|>"),
    CallStyle(
        needs=("<|tool_call|>",),
        scan=_listed,
        syntax=CallSyntax(
            before="<|tool_call|>[", call=_OBJECT, between=", ", after="]", marker="<|tool_call|>"
        ),
    ),
    CallStyle(
        needs=("<|python_tag|>", "parameters"),
        lacks=("<function=",),
        scan=_bare,
        syntax=CallSyntax(
            call=('{"name": "', CallName(), '", "parameters": ', CallArguments(), "}")
        ),
        tags=("<|python_tag|>",),
        bare="{",
    ),
)
"""The first that fits is the one."""
