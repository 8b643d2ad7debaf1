"""Alpaca: an instruction under a heading, its response under another.

The publisher documents one turn. Further ones repeat it after an empty line.
Source: https://github.com/tatsu-lab/stanford_alpaca, README.md (data release) and train.py, which
ends a response with the end-of-sequence token.
"""

from __future__ import annotations

import re

from attrs import frozen

from jarvis_core import (
    ChatRequest,
    Constraint,
    DeltaParser,
    FormatContext,
    ModelInfo,
    Prompt,
    PromptBuilder,
    TextParser,
    check_template_kwargs,
)
from jarvis_formats.plain import end_of_text, turns_after_system

FAMILY = "alpaca"
DEFAULT_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
HEADINGS = {"user": "### Instruction:\n", "assistant": "### Response:"}


@frozen(kw_only=True)
class Alpaca:
    """The format."""

    name: str

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's documentation has it."""
        check_template_kwargs(request)
        eos, stop = end_of_text(context)
        system, turns = turns_after_system(request)
        out, bos = PromptBuilder(), context.model.bos_token or ""
        if system is None:
            out.scaffold(bos + DEFAULT_SYSTEM + "\n\n")
        else:
            out.turn(bos, system, "\n\n" if system else "")
        closing = {"user": "\n\n", "assistant": f"{eos}\n\n"}
        for role, text, is_open in turns:
            out.turn(HEADINGS[role], text, "" if is_open else closing[role])
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold(HEADINGS["assistant"])
        return out.build(stop=("### Instruction:", *stop))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser to which all text is content: these models were shown no tools."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: there are no tool calls."""
        return None


FORMATS = (Alpaca(name=FAMILY),)


def detect(model: ModelInfo) -> bool:
    """Whether the model's name says that it is Alpaca itself, which has no template."""
    names = f"{model.title} {model.source}".lower()
    return not model.chat_template and bool(re.search(r"\balpaca-7b\b", names))
