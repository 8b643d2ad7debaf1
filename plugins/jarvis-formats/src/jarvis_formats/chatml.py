"""ChatML: Qwen 2.5, SmolLM2, and models that only say ``<|im_start|>`` and ``<|im_end|>``.

Tools are listed in the system turn and called in ``<tool_call>`` tags, as in Qwen 2.5 and Hermes.
Source: the chat templates of Qwen/Qwen2.5-7B-Instruct and HuggingFaceTB/SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
    check_template_kwargs,
    developer_as_system,
    left_open,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_calls, unknown_role
from jarvis_formats.tool_call_tags import (
    CALLS,
    call_parser,
    calls_as_text,
    print_call,
    print_result,
    print_tools,
)

FAMILY = "chatml"
STOP = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")


@frozen(kw_only=True)
class Variant:
    """What differs between the models of the family.

    Attributes:
        default_system: System text of a conversation that has none.
        any_role: The template prints every role by its own name, and knows no tools.
    """

    default_system: str = ""
    any_role: bool = False


PLAIN = Variant()
QWEN25 = Variant(
    default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
)
SMOLLM2 = Variant(
    default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    any_role=True,
)


@frozen(kw_only=True)
class ChatML:
    """The format; without a ``variant`` the model decides."""

    name: str
    variant: Variant | None = None
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request)
        variant = self.variant or variant_of(context.model)
        out = PromptBuilder()
        if variant.any_role:
            _turns_by_role(out, request, variant)
        else:
            _turns_with_tools(out, request, variant)
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|im_start|>assistant\n")
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Past calls as text, as the model wrote them."""
        return [calls_as_text(request)]

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


FORMATS = (
    ChatML(name=FAMILY),
    ChatML(name="chatml-qwen2.5", variant=QWEN25, aliases=("qwen2.5",)),
    ChatML(name="chatml-smollm2", variant=SMOLLM2, aliases=("smollm2",)),
)


def variant_of(model: ModelInfo) -> Variant:
    """The variant that a model's own template prints; by its name if it has no template."""
    if model.chat_template:
        found = (v for v in (QWEN25, SMOLLM2) if v.default_system in model.chat_template)
        return next(found, PLAIN)
    names = f"{model.title} {model.source}".lower()
    if re.search(r"qwen[-_ ]?2\.5", names):
        return QWEN25
    return SMOLLM2 if re.search(r"smollm[-_ ]?2", names) else PLAIN


def detect(model: ModelInfo) -> bool:
    """Whether the model surely speaks ChatML and nothing beyond."""
    template = model.chat_template
    if not template:
        return {"<|im_start|>", "<|im_end|>"} <= set(model.control_tokens) and (
            variant_of(model) is not PLAIN
        )
    if "<|im_start|>" not in template or "<|im_end|>" not in template:
        return False
    if re.search(r"think|reasoning|vision|image|content_type|macro|im_sep", template):
        return False
    if variant_of(model) is not PLAIN:
        return True
    # Beyond a plain loop, or with text of its own after a header, only the template knows.
    return not re.search(
        r"tool|bos_token|trim|strip|raise_exception"
        r"|<\|im_start\|>(system|user)(\\n|\n)\s*[^\s'\"{]",
        template,
    )


# -- Qwen 2.5 and plain models -----------------------------------------------------------------

TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def _turns_with_tools(out: PromptBuilder, request: ChatRequest, variant: Variant) -> None:
    messages = developer_as_system(request.messages)
    system_turn(out, request, messages, variant)
    for i, message in enumerate(messages):
        is_open = left_open(request, i)
        if message.role == "tool":
            print_result(out, messages, i, opening="<|im_start|>user", closing="<|im_end|>\n")
        elif message.role not in ("system", "user", "assistant"):
            raise unknown_role(message, i)
        elif i or message.role != "system":
            _turn(out, message, i)
            out.scaffold("" if is_open else "<|im_end|>\n")


def system_turn(
    out: PromptBuilder, request: ChatRequest, messages: tuple[Message, ...], variant: Variant
) -> None:
    """The system text and the tools; nothing where there is neither."""
    given = bool(messages) and messages[0].role == "system"
    if not (given or len(request.tools) or variant.default_system):
        return
    out.scaffold("<|im_start|>system\n")
    if given:
        out.content(content(messages[0], 0))
    else:
        out.scaffold(variant.default_system)
    if len(request.tools):
        out.scaffold("\n\n" if given or variant.default_system else "").scaffold(TOOLS_HEAD)
        print_tools(out, request)
        out.scaffold(TOOLS_TAIL)
    out.scaffold("<|im_end|>\n")


def _turn(out: PromptBuilder, message: Message, index: int) -> None:
    """A turn of system, user or assistant up to its end."""
    text = content(message, index)
    out.scaffold(f"<|im_start|>{message.role}")
    if text or not message.tool_calls:
        out.scaffold("\n").content(text)
    for k in range(len(message.tool_calls)):
        out.scaffold("\n")
        print_call(out, message, index, k)


# -- SmolLM2 -----------------------------------------------------------------------------------

OPENING = {role: f"<|im_start|>{role}\n" for role in ("system", "user", "assistant", "tool")}


def _turns_by_role(out: PromptBuilder, request: ChatRequest, variant: Variant) -> None:
    """Turns of any role. The template shows tools to nobody, so a past call has no place."""
    if request.messages and request.messages[0].role != "system":
        out.scaffold(f"<|im_start|>system\n{variant.default_system}<|im_end|>\n")
    for i, message in enumerate(request.messages):
        if message.tool_calls:
            check_no_calls(message, i)
        opening = OPENING.get(message.role, "\n")
        if message.role not in OPENING:
            out.scaffold("<|im_start|>").content(message.role)
        closing = "" if left_open(request, i) else "<|im_end|>\n"
        out.turn(opening, content(message, i), closing)
