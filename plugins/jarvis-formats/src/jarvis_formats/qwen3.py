"""Qwen 3, which thinks before it answers unless it is told not to.

It is ChatML with tools as in Qwen 2.5. Reasoning of past turns is printed only behind the last
question of the user.
Source: the chat template of Qwen/Qwen3-0.6B, which all hybrid models of the family share.
"""

from __future__ import annotations

import re

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
    ReasoningParser,
    check_template_kwargs,
    continues_reasoning,
    developer_as_system,
    left_open,
    thinking_wanted,
)
from jarvis_formats.chatml import PLAIN, STOP, system_turn
from jarvis_formats.content import content
from jarvis_formats.refusals import unknown_role
from jarvis_formats.tool_call_tags import CALLS, call_parser, print_call, print_result

FAMILY = "qwen3"


@frozen(kw_only=True)
class Qwen3:
    """The format."""

    name: str

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request, "enable_thinking")
        thinking = thinking_wanted(request, default=True)
        messages = developer_as_system(request.messages)
        question = _last_question(messages)
        out = PromptBuilder()
        system_turn(out, request, messages, PLAIN)
        for i, message in enumerate(messages):
            is_open = left_open(request, i)
            if message.role == "tool":
                print_result(out, messages, i, opening="<|im_start|>user", closing="<|im_end|>\n")
            elif message.role not in ("system", "user", "assistant"):
                raise unknown_role(message, i)
            elif i or message.role != "system":
                _turn(out, messages, i, with_reasoning=i > question)
                out.scaffold("" if is_open else "<|im_end|>\n")
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|im_start|>assistant\n")
            out.scaffold("" if thinking else "<think>\n\n</think>\n\n")
        return out.build(
            stop=STOP,
            starts_in_reasoning=continues_reasoning(request, opening="<think>", closing="</think>"),
        )

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that tells reasoning from the answer and its calls."""
        return ReasoningParser(call_parser(request), inside=prompt.starts_in_reasoning)

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call in tags, or several."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Reasoning, unless the prompt has none, then text or calls in tags."""
        if not thinking_wanted(request, default=True):
            return AnswerSyntax(calls=CALLS)
        return AnswerSyntax(opening="<think>", closing="</think>", calls=CALLS)


FORMATS = (Qwen3(name=FAMILY),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a hybrid Qwen 3, which thinks or not as it is told."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return bool(
            {"<|im_start|>", "<|im_end|>"} <= set(model.control_tokens)
            and re.search(r"qwen[-_ ]?3[-_ ](0\.6|1\.7|4|8|14|30|32|235)b", names)
            and not re.search(r"2507|coder|think|instruct|vl|base|embed|rerank|guard|omni", names)
        )
    marks = (
        "multi_step_tool",
        "last_query_index",
        "enable_thinking is false",
        "'<think>\\n\\n</think>\\n\\n'",
        "You may call one or more functions to assist with the user query.",
        "message.content.startswith('<tool_response>')",
    )
    strange = r"<function=|vision|image|bos_token|assistant\\n<think>|raise_exception|macro"
    return all(mark in template for mark in marks) and not re.search(strange, template)


def _last_question(messages: tuple[Message, ...]) -> int:
    """Index of the user's last message that is no tool's result in disguise."""
    for i in range(len(messages) - 1, -1, -1):
        if messages[i].role == "user":
            text = content(messages[i], i)
            if not (text.startswith("<tool_response>") and text.endswith("</tool_response>")):
                return i
    return len(messages) - 1


def _turn(
    out: PromptBuilder, messages: tuple[Message, ...], index: int, *, with_reasoning: bool
) -> None:
    """A turn of system, user or assistant up to its end."""
    message = messages[index]
    text = content(message, index)
    out.scaffold(f"<|im_start|>{message.role}\n")
    if message.role != "assistant":
        out.content(text)
        return
    reasoning, text = _reasoning(message, text)
    if with_reasoning and (reasoning or index == len(messages) - 1):
        out.scaffold("<think>\n").content(reasoning.strip("\n")).scaffold("\n</think>\n\n")
        out.content(text.lstrip("\n"))
    else:
        out.content(text)
    for k in range(len(message.tool_calls)):
        out.scaffold("\n" if k or text else "")
        print_call(out, message, index, k)


def _reasoning(message: Message, text: str) -> tuple[str, str]:
    """Reasoning and answer of a past turn; older clients send both as one text."""
    if message.reasoning is not None or "</think>" not in text:
        return message.reasoning or "", text
    thought = text.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
    return thought, text.split("</think>")[-1].lstrip("\n")
