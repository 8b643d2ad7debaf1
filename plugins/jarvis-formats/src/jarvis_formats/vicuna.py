"""Vicuna from version 1.1 on: one line of ``USER:`` and ``ASSISTANT:``.

Source: https://github.com/lm-sys/FastChat, docs/vicuna_weights_version.md and the conversation
``vicuna_v1.1`` of fastchat/conversation.py, whose separators those documented stand for.
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

FAMILY = "vicuna"
DEFAULT_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
OPENING = {"user": "USER: ", "assistant": "ASSISTANT: "}


@frozen(kw_only=True)
class Vicuna:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's code makes it."""
        check_template_kwargs(request)
        eos, stop = end_of_text(context)
        system, turns = turns_after_system(request)
        out, bos = PromptBuilder(), context.model.bos_token or ""
        if system is None:
            out.scaffold(bos + DEFAULT_SYSTEM + " ")
        else:
            out.turn(bos, system, " " if system else "")
        closing = {"user": " ", "assistant": eos}
        for role, text, is_open in turns:
            out.turn(OPENING[role], text, "" if is_open else closing[role])
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("ASSISTANT:")
        return out.build(stop=("USER:", *stop))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser to which all text is content: these models were shown no tools."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: there are no tool calls."""
        return None


FORMATS = (Vicuna(name=FAMILY, aliases=("vicuna-v1.1", "vicuna-v1.5")),)


def detect(model: ModelInfo) -> bool:
    """Whether the model's name says that it is a Vicuna of version 1.1 or later.

    Its publisher gave it no template. One that somebody else gave it goes before.
    """
    names = f"{model.title} {model.source}".lower()
    return not model.chat_template and bool(re.search(r"\bvicuna-\d+b-v1\.[1-9]\b", names))
