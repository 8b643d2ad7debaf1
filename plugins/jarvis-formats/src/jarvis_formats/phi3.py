"""Phi-3 and Phi-3.5: each role in a turn of its own; the template shows no tools.

Source: the chat template of microsoft/Phi-3.5-mini-instruct.
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
from jarvis_formats.plain import plain_turns

FAMILY = "phi3"
STOP = ("<|end|>", "<|user|>", "<|system|>", "<|assistant|>", "<|endoftext|>")
OPENING = {role: f"<|{role}|>\n" for role in ("system", "user", "assistant")}


@frozen(kw_only=True)
class Phi3:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request)
        out = PromptBuilder()
        for role, text, is_open in plain_turns(request):
            if role != "system" or text:
                out.turn(OPENING[role], text, "" if is_open else "<|end|>\n")
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|assistant|>\n")
        elif not request.continue_final_message:
            out.scaffold(context.model.eos_token or "<|endoftext|>")
        return out.build(stop=STOP)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser to which all text is content: these models were shown no tools."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: there are no tool calls."""
        return None


FORMATS = (Phi3(name=FAMILY, aliases=("phi-3.5",)),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a Phi-3 mini or medium, or prints what their template prints."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return {"<|user|>", "<|assistant|>", "<|end|>"} <= set(model.control_tokens) and bool(
            re.search(r"phi[-_ ]?3(\.5)?[-_ ](mini|medium)", names)
        )
    printed = template.replace("\\n", "\n")
    marks = ("<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>\n", "eos_token")
    if not all(mark in printed for mark in marks):
        return False
    # Earlier ones print a token first, other families use the same tags with text of their own.
    return not re.search(
        r"tool|think|image|bos_token|trim|strip|raise_exception|endoftext"
        r"|<\|(system|user|assistant)\|>\n\s*[^\s'\"]",
        printed,
    )
