"""Gemma 1 and 2: turns of user and model by turns, without system messages and tools.

Source: the chat template of google/gemma-2-2b-it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from jarvis_core import (
    ChatRequest,
    Constraint,
    DeltaParser,
    FormatContext,
    ModelInfo,
    Prompt,
    PromptBuilder,
    RequestError,
    TextParser,
    check_template_kwargs,
    left_open,
    system_as_user,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_calls

FAMILY = "gemma2"
STOP = ("<end_of_turn>", "<start_of_turn>", "<eos>")


@frozen(kw_only=True)
class Gemma2:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request)
        _check_turns(request)
        out = PromptBuilder().scaffold(context.model.bos_token or "<bos>")
        for i, message in enumerate(request.messages):
            role = "model" if message.role == "assistant" else message.role
            if role in ("user", "model"):
                opening = f"<start_of_turn>{role}\n"
            else:
                out.scaffold("<start_of_turn>").content(role)
                opening = "\n"
            closing = "" if left_open(request, i) else "<end_of_turn>\n"
            out.turn(opening, content(message, i).strip(), closing)
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<start_of_turn>model\n")
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """The system text as the user's own, as the publisher asks for it.

        Source: https://ai.google.dev/gemma/docs/core/prompt-structure, "System instructions".
        """
        return [system_as_user(request)]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser to which all text is content: these models were shown no tools."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: there are no tool calls."""
        return None


FORMATS = (Gemma2(name=FAMILY, aliases=("gemma", "gemma1")),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is an instructed Gemma 1 or 2 with its publisher's template."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return (
            model.architecture in ("gemma", "gemma2")
            and {"<start_of_turn>", "<end_of_turn>"} <= set(model.control_tokens)
            and bool(re.search(r"gemma.*[-_ ]it\b", names))
        )
    marks = ("bos_token", "<start_of_turn>", "System role not supported", "must alternate")
    return all(mark in template for mark in marks) and not re.search(
        r"tool|think|image|developer", template
    )


def _check_turns(request: ChatRequest) -> None:
    for i, message in enumerate(request.messages):
        check_no_calls(message, i)
        if i == 0 and message.role in ("system", "developer"):
            raise RequestError(
                "this model has no system role: put the text into the first message of the user",
                param="messages[0].role",
            )
        if (message.role == "user") is not (i % 2 == 0):
            raise RequestError(
                "this model's chat template wants messages of user and assistant by turns, the "
                f"user's first; messages[{i}] is from {message.role}",
                param=f"messages[{i}].role",
            )
