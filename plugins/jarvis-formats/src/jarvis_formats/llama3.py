"""Llama 3.1, 3.2 and 3.3.

Tools are shown in the first turn of the user; a call is a bare JSON object.
Source: the chat templates of meta-llama/Llama-3.1-8B-Instruct (that of 3.3 is the same) and
meta-llama/Llama-3.2-3B-Instruct.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from jarvis_core import (
    AnswerSyntax,
    Call,
    CallArguments,
    CallName,
    CallParser,
    CallSyntax,
    ChatRequest,
    Constraint,
    Cursor,
    DeltaParser,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    PromptBuilder,
    RequestError,
    Scan,
    TextParser,
    arguments_object,
    call_by_call,
    calls_are_constrained,
    check_template_kwargs,
    json_text,
    left_open,
    may_call_tools,
    read_call,
    spaces,
    text_before_calls,
    tojson,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_text

FAMILY = "llama3"
CALL_KEYS = frozenset({"name", "parameters", "arguments", "id", "type"})
CALLS = CallSyntax(call=('{"name": "', CallName(), '", "parameters": ', CallArguments(), "}"))
KNOWN_ROLES = ("system", "user", "assistant", "ipython")
NOT_SUPPORTED = ("builtin_tools", "custom_tools")
STOP = ("<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_of_text|>")


@frozen(kw_only=True)
class Variant:
    """What differs between the models of the family.

    Attributes:
        date: The date that is printed as today's; None prints the clock's.
    """

    date: str | None = None


LLAMA31 = Variant(date="26 Jul 2024")
LLAMA32 = Variant()


@frozen(kw_only=True)
class Llama3:
    """The format; without a ``variant`` the model decides."""

    name: str
    variant: Variant | None = None

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        for name in NOT_SUPPORTED:
            if name in request.template_kwargs:
                raise RequestError(
                    f"{name} is not supported: give functions as tools",
                    param=f"chat_template_kwargs.{name}",
                )
        check_template_kwargs(request, "date_string", "tools_in_user_message")
        out = PromptBuilder()
        out.scaffold(context.model.bos_token or "<|begin_of_text|>")
        first = _system_turn(out, request, context, self.variant or variant_of(context.model))
        if request.tools and _tools_in_user_message(request):
            first = _turn_with_tools(out, request, first)
        for i in range(first, len(request.messages)):
            _turn(out, request, i)
        if request.add_generation_prompt and not request.continue_final_message:
            _header(out, "assistant")
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """One thing a message: the template takes no more."""
        return [call_by_call(text_before_calls(request))]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads calls at the beginning or after their tag, where there are tools."""
        if not may_call_tools(request):
            return TextParser()
        scan = CALLS.scan if calls_are_constrained(request) else scan_call
        return CallParser(scan, markers=["<|python_tag|>"], bare="{", glue=" \t\r\n;")

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """One call: the template takes no more in a message."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Text, or a call."""
        return AnswerSyntax(calls=CALLS)


FORMATS = (
    Llama3(name=FAMILY),
    Llama3(name="llama3.1", variant=LLAMA31),
    Llama3(name="llama3.2", variant=LLAMA32),
    Llama3(name="llama3.3", variant=LLAMA31),
)


def variant_of(model: ModelInfo) -> Variant:
    """The variant that a model's own template prints; by its name if it has no template."""
    if model.chat_template:
        return LLAMA32 if "strftime_now" in model.chat_template else LLAMA31
    names = f"{model.title} {model.source}".lower()
    return LLAMA32 if re.search(r"llama[-_ ]?3\.2", names) else LLAMA31


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a Llama 3.1, 3.2 or 3.3 with its publisher's template."""
    if not model.chat_template:
        # Llama 3.0 prints other turns; its tokenizer has no python tag.
        return {"<|start_header_id|>", "<|eot_id|>", "<|python_tag|>"} <= set(model.control_tokens)
    marks = (
        "<|start_header_id|>",
        "Cutting Knowledge Date: December 2023",
        "tools_in_user_message",
    )
    return all(mark in model.chat_template for mark in marks)


def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A call, after its tag or without one."""
    yield from spaces(cursor)
    text = yield from json_text(cursor, opening="{", keys=CALL_KEYS)
    return [read_call(text, arguments=("parameters", "arguments"))]


# -- turns -------------------------------------------------------------------------------------

ASK_FOR_CALL = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and '
    "its value}.Do not use variables.\n\n"
)
TOOLS_IN_SYSTEM = (
    "You have access to the following functions. To call a function, please respond with JSON for "
    "a function call." + ASK_FOR_CALL
)
TOOLS_IN_USER = (
    "Given the following functions, please respond with a JSON for a function call with its proper "
    "arguments that best answers the given prompt.\n\n" + ASK_FOR_CALL
)


def _header(out: PromptBuilder, role: str) -> None:
    if role in KNOWN_ROLES:
        out.scaffold(f"<|start_header_id|>{role}<|end_header_id|>\n\n")
    else:
        out.scaffold("<|start_header_id|>").content(role).scaffold("<|end_header_id|>\n\n")


def _text(message: Message, index: int) -> str:
    """The content as the template prints it: without white space at its ends."""
    return content(message, index).strip()


def _system_turn(
    out: PromptBuilder, request: ChatRequest, context: FormatContext, variant: Variant
) -> int:
    """Print the system turn, which is always there; return the index of the message after it."""
    _header(out, "system")
    if request.tools:
        out.scaffold("Environment: ipython\n")
    out.scaffold("Cutting Knowledge Date: December 2023\nToday Date: ")
    _date(out, request, context, variant)
    out.scaffold("\n\n")
    if request.tools and not _tools_in_user_message(request):
        _tools(out, request, TOOLS_IN_SYSTEM)
    given = bool(request.messages) and request.messages[0].role == "system"
    if given:
        left_open(request, 0)
        out.content(_text(request.messages[0], 0))
    out.scaffold("<|eot_id|>")
    return int(given)


def _date(
    out: PromptBuilder, request: ChatRequest, context: FormatContext, variant: Variant
) -> None:
    if "date_string" not in request.template_kwargs:
        out.scaffold(variant.date or context.now.strftime("%d %b %Y"))
        return
    date = request.template_kwargs["date_string"]
    if not isinstance(date, str):
        raise RequestError("date_string must be text", param="chat_template_kwargs.date_string")
    out.content(date)


def _tools_in_user_message(request: ChatRequest) -> bool:
    return bool(request.template_kwargs.get("tools_in_user_message", True))


def _tools(out: PromptBuilder, request: ChatRequest, introduction: str) -> None:
    out.scaffold(introduction)
    for tool in request.tools:
        out.content(tojson(tool.spec, indent=4)).scaffold("\n\n")


def _turn_with_tools(out: PromptBuilder, request: ChatRequest, index: int) -> int:
    """Print the tools and the first message in one turn; return the index after that message."""
    if index >= len(request.messages):
        raise RequestError(
            "this model's chat template shows tools in the first message of the user: add one, or "
            "set chat_template_kwargs.tools_in_user_message to false",
            param="messages",
        )
    message = request.messages[index]
    if message.tool_calls:
        raise RequestError(
            "this model's chat template shows tools in the first message, which cannot be a tool "
            "call",
            param=f"messages[{index}].tool_calls",
        )
    _header(out, "user")
    _tools(out, request, TOOLS_IN_USER)
    out.content(_text(message, index))
    out.scaffold("" if left_open(request, index) else "<|eot_id|>")
    return index + 1


def _turn(out: PromptBuilder, request: ChatRequest, index: int) -> None:
    message = request.messages[index]
    is_open = left_open(request, index)
    if message.tool_calls:
        _call(out, message, index)
    elif message.role in ("tool", "ipython"):
        _header(out, "ipython")
        out.content(tojson(content(message, index)))
    else:
        _header(out, message.role)
        out.content(_text(message, index))
    out.scaffold("" if is_open else "<|eot_id|>")


def _call(out: PromptBuilder, message: Message, index: int) -> None:
    if len(message.tool_calls) > 1:
        raise RequestError(
            "this model's chat template takes one tool call in a message: send each call and its "
            "result in turn",
            param=f"messages[{index}].tool_calls",
        )
    check_no_text(message, index)
    call = message.tool_calls[0]
    param = f"messages[{index}].tool_calls[0].function.arguments"
    arguments = tojson(arguments_object(call.arguments, param=param))
    _header(out, "assistant")
    out.scaffold('{"name": "').content(call.name).scaffold('", "parameters": ')
    out.content(arguments).scaffold("}")
