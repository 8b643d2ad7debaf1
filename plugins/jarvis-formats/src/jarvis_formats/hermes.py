"""Hermes 2 Pro and Hermes 3, which call tools in ``<tool_call>`` tags.

With tools the publisher's template ``tool_use`` is printed, whose tools have signatures as in
Python; without them its ``default``, which is ChatML after a begin-of-sequence token.
Source: the chat templates of NousResearch/Hermes-3-Llama-3.1-8B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

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
    RequestError,
    Tool,
    check_template_kwargs,
    developer_as_system,
    left_open,
    text_before_calls,
    tojson,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_text, unknown_role
from jarvis_formats.tool_call_tags import CALLS, call_parser, print_call

FAMILY = "hermes"
STOP = ("<|im_end|>", "<|im_start|>", "<|end_of_text|>")


@frozen(kw_only=True)
class Hermes:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's templates print it."""
        check_template_kwargs(request)
        out = PromptBuilder().scaffold(context.model.bos_token or "")
        if request.tools:
            _tools_turn(out, request)
        messages = developer_as_system(request.messages)
        for i, message in enumerate(messages):
            is_open = left_open(request, i)
            if message.role == "tool":
                _result(out, messages, i)
            elif message.role in ("system", "user", "assistant"):
                _turn(out, message, i)
                out.scaffold("" if is_open else "<|im_end|>\n")
            else:
                raise unknown_role(message, i)
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|im_start|>assistant\n")
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Text in a message before calls: the template prints one of both."""
        return [text_before_calls(request)]

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


FORMATS = (Hermes(name=FAMILY, aliases=("hermes-3", "hermes-2-pro")),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a Hermes 2 Pro or Hermes 3."""
    names = f"{model.title} {model.source}".lower()
    template = model.chat_template
    plain = ("<|im_start|>", "bos_token")
    strange = r"think|reasoning|vision|image|raise_exception"
    if template and "You are a function calling AI model." in template:
        marks = (*plain, "json_to_python_type", "<|im_start|>tool")
        return all(m in template for m in marks) and not re.search(strange, template)
    if not re.search(r"(?<![a-z])hermes[-_ ]?(3|2[-_ ]?pro)(?![\d.])", names):
        return False
    if not template:
        return {"<|im_start|>", "<|im_end|>"} <= set(model.control_tokens)
    # The default template: a plain loop after the begin-of-sequence token, without text of its own.
    strange += r"|tool|trim|strip|macro|<\|im_start\|>(system|user)(\\n|\n)\s*[^\s'\"{]"
    return all(m in template for m in plain) and not re.search(strange, template)


# -- turns -------------------------------------------------------------------------------------

TOOLS_HEAD = (
    "<|im_start|>system\nYou are a function calling AI model. You are provided with function "
    "signatures within <tools></tools> XML tags. You may call one or more functions to assist with "
    "the user query. Don't make assumptions about what values to plug into functions. Here are the "
    "available tools: <tools> "
)
TOOLS_TAIL = (
    " </tools>Use the following pydantic model json schema for each tool call you will make: "
    '{"properties": {"name": {"title": "Name", "type": "string"}, "arguments": {"title": '
    '"Arguments", "type": "object"}}, "required": ["name", "arguments"], "title": "FunctionCall", '
    '"type": "object"}}\nFor each function call return a json object with function name and '
    "arguments within <tool_call></tool_call> XML tags as follows:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-dict>}\n</tool_call><|im_end|>\n'
)


def _tools_turn(out: PromptBuilder, request: ChatRequest) -> None:
    out.scaffold(TOOLS_HEAD)
    for k, tool in enumerate(request.tools):
        out.scaffold("\n" if k else "").content(_tool_text(tool))
    out.scaffold(TOOLS_TAIL)


def _turn(out: PromptBuilder, message: Message, index: int) -> None:
    """A turn of system, user or assistant up to its end."""
    text = content(message, index)
    out.scaffold(f"<|im_start|>{message.role}\n")
    if not message.tool_calls:
        out.content(text)
        return
    check_no_text(message, index)
    for k in range(len(message.tool_calls)):
        out.scaffold("\n" if k else "")
        print_call(out, message, index, k)


def _result(out: PromptBuilder, messages: tuple[Message, ...], index: int) -> None:
    """A result of a tool; neighbouring results share one turn."""
    if index == 0:
        raise RequestError(
            "this model's chat template has no place for a tool's result before all other messages",
            param="messages[0].role",
        )
    is_last = index == len(messages) - 1
    if messages[index - 1].role != "tool":
        out.scaffold("<|im_start|>tool\n")
    text = content(messages[index], index)
    out.scaffold("<tool_response>\n").content(text).scaffold("\n</tool_response>")
    out.scaffold("" if is_last else "\n")
    if is_last or messages[index + 1].role != "tool":
        out.scaffold("<|im_end|>")


# -- tools, as the template describes them -----------------------------------------------------

PYTHON_TYPES = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}


def _tool_text(tool: Tool) -> str:
    """A tool with its signature. The template escapes nothing."""
    function = tool.spec["function"]
    properties = _mapping(_mapping(function.get("parameters")).get("properties"))
    parameters = ", ".join(f"{name}: {_type(spec)}" for name, spec in properties.items())
    returns = f" -> {_type(function['return'])}" if "return" in function else ""
    text = f"{tool.name}({parameters}){returns} - {function.get('description') or ''}\n\n"
    if properties:
        text += "    Args:\n"
    for name, spec in properties.items():
        described = str(_mapping(spec).get("description") or "").strip()
        text += f"        {name}({_type(spec)}): {described}"
    if "description" in _mapping(function.get("return")):
        text += f"\n    Returns:\n        {function['return']['description']}"
    schema = tojson(tool.parameters) if properties else "{}"
    return (
        f'{{"type": "function", "function": {{"name": "{tool.name}", "description": "{text}"'
        f', "parameters": {schema}}}'
    )


def _type(spec: Any) -> str:
    """A JSON schema's type as the template writes it.

    What an array holds is lost in it, and a schema without a type is a union of nothing.
    """
    fields = _mapping(spec)
    kind = fields.get("type", ())
    if isinstance(kind, str) and kind in PYTHON_TYPES:
        return PYTHON_TYPES[kind]
    if kind == "array":
        return "list[Union[]]"
    if kind == "object" and "additionalProperties" in fields:
        return f"dict[str, {_type(fields['additionalProperties'])}]"
    if kind == "object":
        return "dict"
    if isinstance(kind, list | tuple):
        return f"Union[{','.join(_type({'type': k}) for k in kind)}]"
    return "Any"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
