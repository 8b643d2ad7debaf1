"""SmolLM3, which thinks before it answers unless it is told not to.

The publisher's template shows tools; the edited one that many conversions carry shows none. Neither
prints past calls: here they stand in the turn as the model wrote them, where tools are shown.
Source: the chat templates of HuggingFaceTB/SmolLM3-3B and unsloth/SmolLM3-3B-GGUF.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    RequestError,
    check_template_kwargs,
    continues_reasoning,
    developer_as_system,
    left_open,
    thinking_wanted,
)
from jarvis_formats.chatml import STOP
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_calls, unknown_role
from jarvis_formats.tool_call_tags import CALLS, call_parser, calls_as_text, print_call

FAMILY = "smollm3"


@frozen(kw_only=True)
class Variant:
    """What differs between the templates.

    Attributes:
        complete: It is the publisher's: it prints the date, the tools, and ``/system_override``.
    """

    complete: bool


PUBLISHED = Variant(complete=True)
EDITED = Variant(complete=False)


@frozen(kw_only=True)
class SmolLM3:
    """The format; without a ``variant`` the model decides."""

    name: str
    variant: Variant | None = None

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the template prints it."""
        check_template_kwargs(request, "enable_thinking")
        variant = self.variant or variant_of(context.model)
        messages = developer_as_system(request.messages)
        system = _system_text(messages)
        thinking = _thinking(request, system)
        out = PromptBuilder().scaffold("<|im_start|>system\n")
        if variant.complete and "/system_override" in system:
            own = _without(system, "/no_think", "/think").rstrip()
            out.content(_without(own, "/system_override").rstrip()).scaffold("<|im_end|>\n")
        else:
            _metadata(out, system, context, variant, thinking=thinking)
            _tools(out, request, variant)
        for i, message in enumerate(messages):
            is_open = left_open(request, i)
            if message.role != "system":
                _turn(out, message, i, variant, thinking=thinking)
                out.scaffold("" if is_open else "<|im_end|>\n")
        if request.add_generation_prompt and not request.continue_final_message:
            _header(out, thinking=thinking)
        return out.build(
            stop=STOP,
            starts_in_reasoning=continues_reasoning(request, opening="<think>", closing="</think>"),
        )

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Past calls as text, as the model wrote them."""
        return [calls_as_text(request)]

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
        messages = developer_as_system(request.messages)
        if not _thinking(request, _system_text(messages)):
            return AnswerSyntax(calls=CALLS)
        return AnswerSyntax(opening="<think>", closing="</think>", calls=CALLS)


FORMATS = (
    SmolLM3(name=FAMILY),
    SmolLM3(name="smollm3-published", variant=PUBLISHED),
    SmolLM3(name="smollm3-edited", variant=EDITED),
)


def variant_of(model: ModelInfo) -> Variant:
    """The variant that a model's own template is; the edited one if it has none."""
    return PUBLISHED if "Today Date: " in (model.chat_template or "") else EDITED


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is SmolLM3."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return {"<|im_start|>", "<|im_end|>"} <= set(model.control_tokens) and bool(
            re.search(r"smollm[-_ ]?3", names) and "base" not in names
        )
    marks = ("<|im_start|>", "Knowledge Cutoff Date: June 2025", DEFAULT_SYSTEM, "/no_think")
    own = {mark in template for mark in ("Today Date: ", "### Tools", "/system_override")}
    return all(mark in template for mark in marks) and len(own) == 1


def _system_text(messages: Sequence[Message]) -> str:
    for i, message in enumerate(messages[1:], 1):
        if message.role == "system":
            raise RequestError(
                "this model's prompts have a place for one system message, at the beginning",
                param=f"messages[{i}].role",
            )
    if messages and messages[0].role == "system":
        return content(messages[0], 0)
    return ""


def _thinking(request: ChatRequest, system: str) -> bool:
    """Whether the model is to think: a flag in the system text has the last word."""
    wanted = thinking_wanted(request, default=True)
    if "/think" in system or "/no_think" in system:
        return "/no_think" not in system
    return wanted


def _without(text: str, *flags: str) -> str:
    for flag in flags:
        text = text.replace(flag, "")
    return text


# -- the system turn ---------------------------------------------------------------------------

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face."
DEFAULT_THINKING = (
    " Your role as an assistant involves thoroughly exploring questions through a systematic "
    "thinking process before providing the final precise and accurate solutions. This requires "
    "engaging in a comprehensive cycle of analysis, summarizing, exploration, reassessment, "
    "reflection, backtracking, and iteration to develop well-considered thinking process. Please "
    "structure your response into two main sections: Thought and Solution using the specified "
    "format: <think> Thought section </think> Solution section. In the Thought section, detail "
    "your reasoning process in steps. Each step should include detailed considerations such as "
    "analysing questions, summarizing relevant findings, brainstorming new ideas, verifying the "
    "accuracy of the current steps, refining any errors, and revisiting previous steps. In the "
    "Solution section, based on various attempts, explorations, and reflections from the Thought "
    "section, systematically present the final solution that you deem correct. The Solution "
    "section should be logical, accurate, and concise and detail necessary steps needed to reach "
    "the conclusion."
)
TOOLS_HEAD = (
    "### Tools\n\nYou may call one or more functions to assist with the user query.\nYou are "
    "provided with function signatures within <tools></tools> XML tags:\n\n<tools>\n"
)
TOOLS_TAIL = (
    "</tools>\n\nFor each function call, return a json object with function name and arguments "
    'within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>\n\n'
)


def _metadata(
    out: PromptBuilder, system: str, context: FormatContext, variant: Variant, *, thinking: bool
) -> None:
    out.scaffold("## Metadata\n\nKnowledge Cutoff Date: June 2025\n")
    if variant.complete:
        out.scaffold(f"Today Date: {context.now.strftime('%d %B %Y')}\n")
    out.scaffold(f"Reasoning Mode: {'/think' if thinking else '/no_think'}\n\n")
    out.scaffold("## Custom Instructions\n\n")
    if instructions := _without(system, "/no_think", "/think").rstrip():
        out.content(instructions).scaffold("\n\n")
    else:
        out.scaffold(DEFAULT_SYSTEM + (DEFAULT_THINKING if thinking else "") + "\n\n")


def _tools(out: PromptBuilder, request: ChatRequest, variant: Variant) -> None:
    """The tools, as Python prints them, and the end of the turn; it has none without tools."""
    if not variant.complete:
        out.scaffold("<|im_end|>\n")
    elif len(request.tools):
        out.scaffold(TOOLS_HEAD)
        for tool in request.tools:
            out.content(str(dict(tool.spec))).scaffold("\n")
        out.scaffold(TOOLS_TAIL).scaffold("<|im_end|>\n")


# -- turns -------------------------------------------------------------------------------------


def _header(out: PromptBuilder, *, thinking: bool) -> None:
    out.scaffold("<|im_start|>assistant\n").scaffold("" if thinking else "<think>\n\n</think>\n")


def _turn(
    out: PromptBuilder, message: Message, index: int, variant: Variant, *, thinking: bool
) -> None:
    """A turn of user, assistant or tool up to its end."""
    text = content(message, index)
    if message.role in ("user", "tool"):
        out.scaffold("<|im_start|>user\n").content(text)
        return
    if message.role != "assistant":
        raise unknown_role(message, index)
    if not variant.complete:
        check_no_calls(message, index)
    _header(out, thinking=thinking)
    out.content(text.lstrip("\n"))
    for k in range(len(message.tool_calls)):
        out.scaffold("\n" if k or text else "")
        print_call(out, message, index, k)
