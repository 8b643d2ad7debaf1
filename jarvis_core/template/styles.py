"""The ways to write calls of tools that are known by what a template holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen

from jarvis_core.grammar import (
    CallArguments,
    CallName,
    CallPattern,
    CallSyntax,
    calls_are_constrained,
)
from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import Call, CallParser
from jarvis_core.scanning import Cursor, Scan
from jarvis_core.structs import ChatRequest
from jarvis_core.template.json_calls import (
    FENCED,
    action,
    bare,
    fenced,
    listed,
    listed_in_tags,
    named,
    numbered,
    separated,
    tagged,
)
from jarvis_core.template.pythonic_calls import PythonicCalls
from jarvis_core.template.tagged_calls import TaggedCalls

Scanner = Callable[[Cursor, str], Scan[Sequence[Call]]]


@frozen(kw_only=True)
class CallStyle:
    """One way to write calls.

    Attributes:
        needs: Texts that a template holds whose model writes so.
        lacks: Texts that it does not hold.
        syntax: How calls are written; its marker is what begins one.
        scan: Reads calls after the marker.
        scan_for: Gives what reads them, also if a grammar made them, where it takes the request to
            read them.
        tags: Further markers.
        bare: Characters that begin a call without a marker where an answer begins.
        ending: A marker that may stand behind the last call and means nothing there.
        make_id: Makes the identifier of a call, where the templates print no other: of a request,
            the place of the call in the answer, and its name.
    """

    needs: tuple[str, ...]
    syntax: CallSyntax
    scan: Scanner | None = None
    scan_for: Callable[[ChatRequest], Scanner] | None = None
    lacks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    bare: str = ""
    ending: str = ""
    make_id: Callable[[ChatRequest, int, str], str] | None = None

    def fits(self, template: str) -> bool:
        """Whether the model of a template writes so."""
        return all(text in template for text in self.needs) and not any(
            text in template for text in self.lacks
        )

    def parser(self, request: ChatRequest) -> DeltaParser:
        """A parser of one answer."""
        return CallParser(
            self._scan(request),
            markers=[m for m in (self.syntax.marker, *self.tags) if m],
            bare=self.bare,
            ending=self.ending,
            make_id=partial(self.make_id, request) if self.make_id else None,
        )

    def _scan(self, request: ChatRequest) -> Scanner:
        if self.scan_for is not None:
            return self.scan_for(request)
        if self.scan is None or calls_are_constrained(request):
            return self.syntax.scan
        return self.scan


def _nine_characters(request: ChatRequest, index: int, name: str) -> str:
    """An identifier that no other call of a conversation has, of the length that Mistral wants."""
    text = f"{len(request.messages)} {index} {name}"
    return hashlib.sha256(text.encode()).hexdigest()[:9]


def _numbered(request: ChatRequest, index: int, name: str) -> str:
    """An identifier as Kimi writes it: calls are numbered through a whole conversation."""
    earlier = sum(len(message.tool_calls) for message in request.messages)
    return f"functions.{name}:{earlier + index}"


_OBJECT = ('{"name": "', CallName(), '", "arguments": ', CallArguments(), "}")


def _list_between(opening: str, closing: str, *needs: str) -> CallStyle:
    """A JSON array of calls between two tags."""
    return CallStyle(
        needs=(opening, closing, *needs),
        scan=partial(listed_in_tags, closing),
        syntax=CallSyntax(
            before=f"{opening}[", call=_OBJECT, between=", ", after=f"]{closing}", marker=opening
        ),
    )


def _between_tags(calls: TaggedCalls, *needs: str) -> CallStyle:
    """Calls whose arguments stand between tags."""
    return CallStyle(
        needs=needs,
        syntax=calls.syntax,
        scan_for=calls.scan,
        tags=(calls.short_marker,) if calls.short_marker else (),
        ending=calls.closing.split("\n")[-1] if calls.short_marker else "",
    )


def _pythonic(*needs: str) -> CallStyle:
    """Calls as in Python, between the tokens of LFM2."""
    calls = PythonicCalls(before="<|tool_call_start|>", after="<|tool_call_end|>")
    return CallStyle(needs=needs, syntax=calls.syntax, scan_for=calls.scan)


def _functions(tag: str, value: str, after_value: str) -> TaggedCalls:
    """Calls in tags that name function and parameter."""
    return TaggedCalls(
        opening=f"<{tag}>\n<function=",
        after_name=">\n",
        key="<parameter=",
        after_key=">",
        value=value,
        after_value=after_value,
        closing=f"</function>\n</{tag}>",
        marker=f"<{tag}>",
        short_marker="<function=",
    )


def _invocations(tag: str, part: str, *, flagged: bool = False) -> TaggedCalls:
    """Calls between two tags, each an invocation with parameters.

    Args:
        tag: The tag around all calls.
        part: What the names of the tags in it begin with.
        flagged: Whether a parameter says that it is a string.
    """
    return TaggedCalls(
        before=f"<{tag}>\n",
        opening=f'<{part}invoke name="',
        after_name='">\n',
        key=f'<{part}parameter name="',
        after_key='" string="' if flagged else '">',
        flagged=flagged,
        value='">' if flagged else "",
        after_value=f"</{part}parameter>\n",
        closing=f"</{part}invoke>\n",
        between="",
        after=f"</{tag}>",
        marker=f"<{tag}>",
    )


def _keys_and_values(line_break: str) -> TaggedCalls:
    """Calls in which the name of an argument and its value have tags of their own, as GLM's."""
    return TaggedCalls(
        opening="<tool_call>",
        after_name=line_break,
        key="<arg_key>",
        after_key="</arg_key>",
        value=f"{line_break}<arg_value>",
        after_value=f"</arg_value>{line_break}",
        closing="</tool_call>",
        between=line_break,
        marker="<tool_call>",
    )


STYLES = (
    _list_between("<tool_calls>", "</tool_calls>", "<tool_calls>["),
    _list_between("<TOOLCALL>", "</TOOLCALL>", "<TOOLCALL>["),
    CallStyle(
        needs=("<tool_call>", "arguments"),
        lacks=("<function=", "<arg_key>", "<invoke "),
        scan=tagged,
        syntax=CallSyntax(
            call=(f"<tool_call>\n{_OBJECT[0]}", *_OBJECT[1:4], "}\n</tool_call>"),
            between="\n",
            marker="<tool_call>",
        ),
    ),
    CallStyle(
        needs=("[TOOL_CALLS]", "[ARGS]"),
        scan=named,
        make_id=_nine_characters,
        syntax=CallSyntax(
            call=("[TOOL_CALLS]", CallName(), "[ARGS]", CallArguments()),
            between="",
            marker="[TOOL_CALLS]",
        ),
    ),
    CallStyle(
        needs=("[TOOL_CALLS]",),
        scan=named,
        make_id=_nine_characters,
        syntax=CallSyntax(
            before="[TOOL_CALLS][", call=_OBJECT, between=", ", after="]", marker="[TOOL_CALLS]"
        ),
    ),
    CallStyle(
        needs=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"),
        lacks=("```json",),
        scan=separated,
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
        scan=fenced,
        syntax=CallSyntax(
            before="<｜tool▁calls▁begin｜>",
            call=(
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                CallName(),
                FENCED[0],
                CallArguments(),
                FENCED[1],
            ),
            between="\n",
            after="<｜tool▁calls▁end｜>",
            marker="<｜tool▁calls▁begin｜>",
        ),
    ),
    _list_between("<|tool_call|>", "<|/tool_call|>"),
    CallStyle(
        needs=("<|tool_call|>",),
        scan=listed,
        syntax=CallSyntax(
            before="<|tool_call|>[", call=_OBJECT, between=", ", after="]", marker="<|tool_call|>"
        ),
    ),
    CallStyle(
        needs=("<|python_tag|>", "parameters"),
        lacks=("<function=",),
        scan=bare,
        syntax=CallSyntax(
            call=('{"name": "', CallName(), '", "parameters": ', CallArguments(), "}")
        ),
        tags=("<|python_tag|>",),
        bare="{",
    ),
    _between_tags(
        _functions("tool_call", "\n", "\n</parameter>\n"),
        "<tool_call>",
        "<function=",
        "<parameter=",
    ),
    _between_tags(
        _functions("seed:tool_call", "", "</parameter>\n"),
        "<seed:tool_call>",
        "<function=",
        "<parameter=",
    ),
    _between_tags(_keys_and_values("\n"), "<tool_call>", "</arg_key>\n<arg_value>"),
    _between_tags(_keys_and_values(""), "<tool_call>", "<arg_key>", "<arg_value>"),
    _between_tags(_invocations("minimax:tool_call", ""), "<minimax:tool_call>", "<invoke name="),
    _between_tags(
        _invocations("｜DSML｜function_calls", "｜DSML｜", flagged=True),
        "｜DSML｜",
        "function_calls",
        "<function_results>",
    ),
    _between_tags(
        _invocations("｜DSML｜tool_calls", "｜DSML｜", flagged=True), "｜DSML｜", "tool_calls"
    ),
    CallStyle(
        needs=("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
        scan=numbered,
        make_id=_numbered,
        syntax=CallSyntax(
            before="<|tool_calls_section_begin|>",
            call=(
                "<|tool_call_begin|>functions.",
                CallName(),
                ":",
                CallPattern("[0-9]{1,3}"),
                "<|tool_call_argument_begin|>",
                CallArguments(),
                "<|tool_call_end|>",
            ),
            between="",
            after="<|tool_calls_section_end|>",
            marker="<|tool_calls_section_begin|>",
        ),
    ),
    CallStyle(
        needs=("<|START_ACTION|>", "<|END_ACTION|>", "tool_name"),
        scan=action,
        syntax=CallSyntax(
            before="<|START_ACTION|>[\n",
            call=(
                '    {"tool_call_id": "',
                CallPattern("[0-9]{1,2}"),
                '", "tool_name": "',
                CallName(),
                '", "parameters": ',
                CallArguments(),
                "}",
            ),
            between=",\n",
            after="\n]<|END_ACTION|>",
            marker="<|START_ACTION|>",
        ),
    ),
    _pythonic("<|tool_call_start|>"),
    _pythonic("<|tool_list_start|>"),
    _pythonic("List of tools: [", "keep_past_thinking"),
)
"""The first that fits is the one."""
