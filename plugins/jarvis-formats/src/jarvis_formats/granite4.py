"""Granite 4: roles in tags of their own, tools and documents in the system turn.

Source: the chat template of ibm-granite/granite-4.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from jarvis_core import (
    AnswerSyntax,
    ChatRequest,
    Constraint,
    DeltaParser,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    PromptBuilder,
    check_template_kwargs,
    developer_as_system,
    left_open,
    tojson,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import unknown_role
from jarvis_formats.tool_call_tags import CALLS, call_parser, print_call, print_result, print_tools

FAMILY = "granite4"
STOP = ("<|end_of_text|>", "<|start_of_role|>")


@frozen(kw_only=True)
class Granite4:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request, "documents")
        messages = tuple(map(_without_empty_parts, developer_as_system(request.messages)))
        out = PromptBuilder()
        _system_turn(out, request, messages)
        for i, message in enumerate(messages):
            is_open = left_open(request, i)
            if message.role == "tool":
                print_result(out, messages, i, opening=_header("user"), closing="<|end_of_text|>\n")
            elif message.role not in ("system", "user", "assistant"):
                raise unknown_role(message, i)
            elif i or message.role != "system":
                _turn(out, message, i)
                out.scaffold("" if is_open else "<|end_of_text|>\n")
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold(_header("assistant"))
        return out.build(stop=STOP)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads ``<tool_call>`` tags where the request has tools."""
        return call_parser(request)

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call in tags, or several."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Text, or calls in tags."""
        return AnswerSyntax(calls=CALLS)


FORMATS = (Granite4(name=FAMILY, aliases=("granite", "granite-4.0")),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a Granite 4."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return {"<|start_of_role|>", "<|end_of_role|>"} <= set(model.control_tokens) and bool(
            re.search(r"granite[-_ ]?4\.0", names)
        )
    marks = (
        "<|start_of_role|>",
        "g4_default_system_message",
        DEFAULT_SYSTEM,
        "If a tool does not exist in the provided list of tools",
    )
    return all(m in template for m in marks) and not re.search("think|image", template)


# -- turns -------------------------------------------------------------------------------------

DEFAULT_SYSTEM = (
    "You are a helpful assistant. Please ensure responses are professional, accurate, and safe."
)
TOOLS_HEAD = (
    "You are a helpful assistant with access to the following tools. You may call one or more "
    "tools to assist with the user query.\n\nYou are provided with function signatures within "
    "<tools></tools> XML tags:\n<tools>"
)
TOOLS_TAIL = (
    "\n</tools>\n\nFor each tool call, return a json object with function name and arguments "
    'within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>. If a tool does not exist in the provided list '
    "of tools, notify the user that you do not have the ability to fulfill the request."
)
DOCUMENTS_HEAD = (
    "You are a helpful assistant with access to the following documents. You may use one or more "
    "documents to assist with the user query.\n\nYou are given a list of documents within "
    "<documents></documents> XML tags:\n<documents>"
)
DOCUMENTS_TAIL = (
    "\n</documents>\n\nWrite the response to the user's input by strictly aligning with the facts "
    "in the provided documents. If the information needed to answer the question is not available "
    "in the documents, inform the user that the question cannot be answered based on the available "
    "data."
)


def _header(role: str) -> str:
    return f"<|start_of_role|>{role}<|end_of_role|>"


def _without_empty_parts(message: Message) -> Message:
    """The message as the template joins its parts: empty ones before the first text are skipped."""
    if message.content is None or isinstance(message.content, str):
        return message
    parts = list(message.content)
    while parts and getattr(parts[0], "text", None) == "":
        parts.pop(0)
    return evolve(message, content=tuple(parts))


def _system_turn(out: PromptBuilder, request: ChatRequest, messages: Sequence[Message]) -> None:
    """The system turn, which is always there."""
    documents: Any = request.template_kwargs.get("documents") or ()
    given = bool(messages) and messages[0].role == "system"
    text = content(messages[0], 0) if given else ""
    extra = bool(len(request.tools) or documents)
    out.scaffold(_header("system"))
    if not text and not extra:
        out.scaffold(DEFAULT_SYSTEM)
    out.content(text).scaffold("\n\n" if given and extra else "")
    if len(request.tools):
        out.scaffold(TOOLS_HEAD)
        print_tools(out, request)
        out.scaffold(TOOLS_TAIL)
    if documents:
        out.scaffold("\n\n" if len(request.tools) else "").scaffold(DOCUMENTS_HEAD)
        for document in documents:
            out.scaffold("\n").content(tojson(document))
        out.scaffold(DOCUMENTS_TAIL)
    out.scaffold("<|end_of_text|>\n")


def _turn(out: PromptBuilder, message: Message, index: int) -> None:
    """A turn of system, user or assistant up to its end."""
    text = content(message, index)
    out.scaffold(_header(message.role)).content(text)
    for k in range(len(message.tool_calls)):
        out.scaffold("\n" if k or text else "")
        print_call(out, message, index, k)
