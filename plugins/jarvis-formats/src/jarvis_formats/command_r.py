"""Command R7B: reasoning, calls of tools and the answer each stand between tokens of their own.

Source: the chat template ``tool_use`` of CohereForAI/c4ai-command-r7b-12-2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from jarvis_core import (
    AnswerSyntax,
    Call,
    CallArguments,
    CallName,
    CallParser,
    CallPattern,
    CallSyntax,
    ChatRequest,
    Constraint,
    Cursor,
    DeltaParser,
    FormatContext,
    FramedParser,
    Message,
    ModelInfo,
    Prompt,
    PromptBuilder,
    ReasoningParser,
    Scan,
    TextParser,
    arguments_object,
    calls_are_constrained,
    check_template_kwargs,
    developer_as_system,
    json_text,
    left_open,
    literal,
    may_call_tools,
    read_calls,
    spaces,
    text_before_calls,
    thinking_wanted,
    tojson,
)
from jarvis_formats.command_r_preamble import (
    DEFAULTS,
    DEVELOPER,
    DOCUMENT_CALL,
    DOCUMENT_TOOL,
    SYSTEM,
    TOOL_USE,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_text, unknown_role

FAMILY = "command_r"
END_OF_TURN = "<|END_OF_TURN_TOKEN|>"
THINKING = ("<|START_THINKING|>", "<|END_THINKING|>")
RESPONSE = ("<|START_RESPONSE|>", "<|END_RESPONSE|>")
ACTION = ("<|START_ACTION|>", "<|END_ACTION|>")
STOP = (RESPONSE[1], END_OF_TURN, "<|START_OF_TURN_TOKEN|>")

CALLS = CallSyntax(
    before=f"{ACTION[0]}[\n",
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
    after=f"\n]{ACTION[1]}",
    marker=ACTION[0],
)


@frozen(kw_only=True)
class CommandR:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it.

        The template opens the model's turn whether or not that is asked for.
        """
        check_template_kwargs(request, "enable_thinking", "documents")
        documents: Any = request.template_kwargs.get("documents") or ()
        thinking = thinking_wanted(request, default=False)
        messages = developer_as_system(request.messages)
        preamble = ""
        if messages and messages[0].role == "system":
            preamble = content(messages[0], 0)
        out = PromptBuilder().scaffold(context.model.bos_token or "<BOS_TOKEN>")
        _system_turn(out, request, documents, preamble)
        calls = 0
        for i, message in enumerate(messages):
            is_open = left_open(request, i)
            if i or not preamble:
                _turn(out, messages, i, calls, is_open=is_open)
            if message.role == "user" and documents:
                _documents_turn(out, documents)
                documents, calls = (), calls + 1
            calls += len(message.tool_calls)
        if not request.continue_final_message:
            out.scaffold(_header("CHATBOT")).scaffold("" if thinking else "".join(THINKING))
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Text in a message before calls: the template prints one of both."""
        return [text_before_calls(request)]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that tells reasoning, calls and the answer from each other."""
        calls: DeltaParser = TextParser()
        if may_call_tools(request):
            scan = CALLS.scan if calls_are_constrained(request) else scan_calls
            calls = CallParser(scan, markers=[ACTION[0]])
        answer = FramedParser(
            calls, opening=RESPONSE[0], closing=RESPONSE[1], inside=request.continue_final_message
        )
        opening, closing = THINKING
        return ReasoningParser(
            answer, opening=opening, closing=closing, inside=prompt.starts_in_reasoning
        )

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """An action of one call, or of several."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Reasoning, if the prompt asks for it, then the answer or an action."""
        opening, closing = THINKING if thinking_wanted(request, default=False) else ("", "")
        return AnswerSyntax(
            opening=opening, closing=closing, before_content=RESPONSE[0], calls=CALLS
        )


FORMATS = (CommandR(name=FAMILY, aliases=("command-r7b", "cohere")),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a Command R7B."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return THINKING[0] in model.control_tokens and bool(
            re.search(r"command[-_ ]?r[-_ ]?7b", names)
        )
    marks = (
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "direct-injected-document",
        "You are in contextual safety mode.",
        "# Default Preamble",
        "Your name is Command.",
        *THINKING,
        *RESPONSE,
        *ACTION,
    )
    return all(mark in template for mark in marks) and "START_TEXT" not in template


def scan_calls(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """The calls of an action. The model numbers them anew in each answer, so they get new ids."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="[")
    yield from spaces(cursor)
    yield from literal(cursor, ACTION[1])
    return read_calls(text, name="tool_name", arguments=("parameters",), ignored=("tool_call_id",))


# -- turns -------------------------------------------------------------------------------------


def _header(role: str) -> str:
    return f"<|START_OF_TURN_TOKEN|><|{role}_TOKEN|>"


def _system_turn(
    out: PromptBuilder, request: ChatRequest, documents: Sequence[Any], preamble: str
) -> None:
    out.scaffold(_header("SYSTEM")).scaffold(SYSTEM)
    if len(request.tools) or documents:
        out.scaffold(TOOL_USE)
        out.scaffold(DOCUMENT_TOOL if documents else "")
        out.scaffold("," if documents and len(request.tools) else "")
        out.scaffold("\n" if documents else "")
        for k, tool in enumerate(request.tools):
            description = str(tool.spec["function"].get("description") or "")
            out.scaffold('    {"name": "').content(tool.name)
            out.scaffold('", "description": "').content(description)
            out.scaffold('", "parameters": ').content(tojson(tool.parameters))
            out.scaffold(', "responses": null}')
            out.scaffold(",\n" if k < len(request.tools) - 1 else "\n")
        out.scaffold("]\n```\n\n")
    out.scaffold(DEFAULTS)
    if preamble:
        out.scaffold(DEVELOPER).content(preamble)
    out.scaffold(END_OF_TURN)


def _documents_turn(out: PromptBuilder, documents: Sequence[Any]) -> None:
    """The documents, as the result of a call that nobody made."""
    out.scaffold(_header("CHATBOT") + DOCUMENT_CALL + END_OF_TURN + _header("SYSTEM"))
    out.scaffold("<|START_TOOL_RESULT|>[\n")
    _results(out, "0", documents)
    out.scaffold("\n]<|END_TOOL_RESULT|>" + END_OF_TURN)


def _turn(
    out: PromptBuilder, messages: Sequence[Message], index: int, calls: int, *, is_open: bool
) -> None:
    """A turn.

    Args:
        out: The prompt.
        messages: The conversation.
        index: Which of its messages to print.
        calls: How many calls were made before it.
        is_open: Whether the turn is left open.
    """
    message = messages[index]
    text = content(message, index)
    if message.role in ("system", "user"):
        out.turn(_header(message.role.upper()), text, "" if is_open else END_OF_TURN)
    elif message.role == "tool":
        _result(out, messages, index, text)
    elif message.role != "assistant":
        raise unknown_role(message, index)
    elif message.tool_calls:
        _action(out, message, index, calls, text)
    else:
        closing = "" if is_open else RESPONSE[1] + END_OF_TURN
        out.turn(_header("CHATBOT") + RESPONSE[0], text, closing)


def _action(out: PromptBuilder, message: Message, index: int, calls: int, text: str) -> None:
    check_no_text(message, index)
    out.scaffold(_header("CHATBOT") + THINKING[0]).content(message.reasoning or "")
    out.scaffold(THINKING[1] + ACTION[0] + "[\n")
    for k, call in enumerate(message.tool_calls):
        param = f"messages[{index}].tool_calls[{k}].function.arguments"
        arguments = tojson(arguments_object(call.arguments, param=param))
        out.scaffold(f'    {{"tool_call_id": "{calls + k}", "tool_name": "').content(call.name)
        out.scaffold('", "parameters": ').content(arguments)
        out.scaffold("},\n" if k < len(message.tool_calls) - 1 else "}\n")
    out.scaffold("]" + ACTION[1] + END_OF_TURN)


def _result(out: PromptBuilder, messages: Sequence[Message], index: int, text: str) -> None:
    """A result of a tool; neighbouring results share one turn."""
    ids = [call.id for m in messages for call in m.tool_calls]
    called = messages[index].tool_call_id
    is_first = index == 0 or messages[index - 1].role != "tool"
    is_last = index == len(messages) - 1 or messages[index + 1].role != "tool"
    out.scaffold(_header("SYSTEM") + "<|START_TOOL_RESULT|>[\n" if is_first else ",\n")
    _results(out, str(ids.index(called)) if called in ids else "", [text])
    out.scaffold("\n]<|END_TOOL_RESULT|>" + END_OF_TURN if is_last else "")


def _results(out: PromptBuilder, call: str, results: Sequence[Any]) -> None:
    """The results of one call, which is known by its number."""
    out.scaffold(f'    {{\n        "tool_call_id": "{call}",\n        "results": {{\n')
    for k, result in enumerate(results):
        out.scaffold(",\n" if k else "").scaffold(f'            "{k}": ').content(tojson(result))
    out.scaffold('\n        },\n        "is_error": null\n    }')
