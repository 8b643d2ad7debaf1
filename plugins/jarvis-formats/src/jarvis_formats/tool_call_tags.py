"""Calls in ``<tool_call>`` tags: a JSON object of name and arguments, in prompts and answers.

Hermes began it; Qwen, Granite 4 and SmolLM3 write calls alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from jarvis_core import (
    Call,
    CallArguments,
    CallName,
    CallParser,
    CallSyntax,
    ChatRequest,
    Cursor,
    DeltaParser,
    Message,
    PromptBuilder,
    Scan,
    TextParser,
    arguments_object,
    calls_are_constrained,
    json_text,
    literal,
    may_call_tools,
    read_call,
    spaces,
    tojson,
)
from jarvis_formats.content import content

CALL_KEYS = frozenset({"name", "arguments", "id", "type"})
CALLS = CallSyntax(
    call=(
        '<tool_call>\n{"name": "',
        CallName(),
        '", "arguments": ',
        CallArguments(),
        "}\n</tool_call>",
    ),
    between="\n",
    marker="<tool_call>",
)


def call_parser(request: ChatRequest) -> DeltaParser:
    """A parser that reads calls in tags where the request has tools."""
    if not may_call_tools(request):
        return TextParser()
    scan = CALLS.scan if calls_are_constrained(request) else scan_call
    return CallParser(scan, markers=["<tool_call>"])


def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A call after its opening tag."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="{", keys=CALL_KEYS)
    yield from spaces(cursor)
    yield from literal(cursor, "</tool_call>")
    return [read_call(text)]


def print_tools(out: PromptBuilder, request: ChatRequest) -> None:
    """Add the tools to a prompt, each in a line of its own."""
    for tool in request.tools:
        out.scaffold("\n").content(tojson(tool.spec))


def print_call(out: PromptBuilder, message: Message, index: int, k: int) -> None:
    """Add the k-th call of a message to a prompt."""
    call = message.tool_calls[k]
    param = f"messages[{index}].tool_calls[{k}].function.arguments"
    arguments = tojson(arguments_object(call.arguments, param=param))
    out.scaffold('<tool_call>\n{"name": "').content(call.name)
    out.scaffold('", "arguments": ').content(arguments).scaffold("}\n</tool_call>")


def calls_as_text(request: ChatRequest) -> ChatRequest:
    """The request with past calls as text of their messages, for templates that print none."""
    messages = []
    for i, message in enumerate(request.messages):
        if message.tool_calls:
            out = PromptBuilder().content(content(message, i))
            for k in range(len(message.tool_calls)):
                out.content("\n" if k or message.content else "")
                print_call(out, message, i, k)
            message = evolve(message, content=out.build().text, tool_calls=())
        messages.append(message)
    return evolve(request, messages=tuple(messages))


def print_result(
    out: PromptBuilder, messages: Sequence[Message], index: int, *, opening: str, closing: str
) -> None:
    """Add a result of a tool to a prompt; neighbouring results share one turn.

    Args:
        out: The prompt.
        messages: The conversation.
        index: Which of its messages is the result.
        opening: What opens a turn of the user.
        closing: What closes it.
    """
    if index == 0 or messages[index - 1].role != "tool":
        out.scaffold(opening)
    text = content(messages[index], index)
    out.scaffold("\n<tool_response>\n").content(text).scaffold("\n</tool_response>")
    if index == len(messages) - 1 or messages[index + 1].role != "tool":
        out.scaffold(closing)
