"""Zephyr and models tuned by its recipe, such as TinyLlama: roles in tags that are plain text.

Source: the example and the chat template of HuggingFaceH4/zephyr-7b-beta, https://huggingface.co/HuggingFaceH4/zephyr-7b-beta.
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
from jarvis_formats.plain import end_of_text, plain_turns

FAMILY = "zephyr"
STOP = ("<|user|>", "<|system|>", "<|assistant|>")
OPENING = {role: f"<|{role}|>\n" for role in ("system", "user", "assistant")}


@frozen(kw_only=True)
class Zephyr:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request)
        eos, stop = end_of_text(context)
        out = PromptBuilder()
        closing = f"{eos}\n"
        for role, text, is_open in plain_turns(request):
            out.turn(OPENING[role], text, "" if is_open else closing)
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|assistant|>\n")
        return out.build(stop=(*STOP, *stop))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser to which all text is content: these models were shown no tools."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: there are no tool calls."""
        return None


FORMATS = (Zephyr(name=FAMILY, aliases=("tinyllama",)),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely has the template of Zephyr, or is one."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return bool(re.search(r"\b(zephyr-7b-(alpha|beta)|tinyllama-1\.1b-chat-v1\.0)\b", names))
    printed = template.replace("\\n", "\n")
    written = re.findall(r"<\|(\w+)\|>\n'\s*\+\s*message\['content'\]\s*\+\s*eos_token", printed)
    return sorted(written) == ["assistant", "system", "user"] and not re.search(
        r"tool|think|image|bos_token|trim|strip|raise_exception|<\|(?!system|user|assistant)",
        printed,
    )
