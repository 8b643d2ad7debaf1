"""gpt-oss: messages in the harmony format, each on a channel.

Thinking is on the channel ``analysis``, calls of tools and words about them on ``commentary``, the
answer on ``final``.
Source: the chat template of openai/gpt-oss-120b; the harmony format is documented at
https://github.com/openai/harmony, docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from attrs import frozen

from jarvis_core import (
    AnswerSyntax,
    CallArguments,
    CallName,
    CallSyntax,
    ChatRequest,
    Constraint,
    DeltaParser,
    FormatContext,
    ModelInfo,
    Prompt,
    PromptBuilder,
    RequestError,
    arguments_object,
    call_by_call,
    check_template_kwargs,
    left_open,
    may_call_tools,
    tojson,
)
from jarvis_formats.content import content
from jarvis_formats.gpt_oss_parser import HarmonyParser
from jarvis_formats.gpt_oss_tools import BUILTIN, functions

FAMILY = "gpt_oss"
STOP = (
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|start|>user",
    "<|start|>system",
    "<|start|>developer",
    "<|start|>functions",
)
EFFORTS = ("low", "medium", "high")
IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
THOUGHTS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")
CALLS = CallSyntax(
    call=(
        "<|channel|>commentary to=functions.",
        CallName(),
        " <|constrain|>json<|message|>",
        CallArguments(),
    ),
)
CHANNELS = (
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
CALLS_GO_TO = "\nCalls to these tools must go to the commentary channel: 'functions'."


@frozen(kw_only=True)
class GptOss:
    """The format."""

    name: str
    aliases: tuple[str, ...] = ()
    reasoning_key: ClassVar[str] = "thinking"
    """What the publisher's template calls the reasoning of a message."""

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request, "reasoning_effort", "model_identity", "builtin_tools")
        out = PromptBuilder()
        _system(out, request, context)
        first = _developer(out, request)
        called: str | None = None
        for i in range(first, len(request.messages)):
            called = _message(out, request, i, called)
        if request.add_generation_prompt and not request.continue_final_message:
            out.scaffold("<|start|>assistant")
        return out.build(stop=STOP)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """One call a message: the template prints no more."""
        return [call_by_call(request)]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that tells the channels apart, and calls where the request has tools."""
        return HarmonyParser(
            calls=may_call_tools(request),
            in_final=request.continue_final_message,
            only_final=request.constraint is not None,
        )

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """One call: the template takes no more in a message."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Thoughts, if any, then the answer or a call, each on its channel."""
        if request.continue_final_message:
            return AnswerSyntax()
        opening, closing = THOUGHTS
        return AnswerSyntax(
            opening=opening,
            closing=closing,
            before_content="<|channel|>final<|message|>",
            calls=CALLS,
        )


FORMATS = (GptOss(name=FAMILY, aliases=("harmony",)),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is a gpt-oss with its publisher's template."""
    tokens = {"<|start|>", "<|channel|>", "<|message|>"}
    if not model.chat_template:
        return model.architecture in ("gpt-oss", "gpt_oss") and tokens <= set(model.control_tokens)
    marks = (*tokens, "# Valid channels: analysis, commentary, final.", "render_typescript_type")
    return all(mark in model.chat_template for mark in marks)


# -- before the conversation -------------------------------------------------------------------


def _system(out: PromptBuilder, request: ChatRequest, context: FormatContext) -> None:
    """What the model is, knows and may do; the instructions of others have their own message."""
    out.scaffold("<|start|>system<|message|>")
    identity = request.template_kwargs.get("model_identity", IDENTITY)
    if not isinstance(identity, str):
        raise RequestError(
            "model_identity must be text", param="chat_template_kwargs.model_identity"
        )
    out.content(identity).scaffold("\nKnowledge cutoff: 2024-06\nCurrent date: ")
    out.scaffold(context.now.strftime("%Y-%m-%d"))
    out.scaffold(f"\n\nReasoning: {_effort(request)}\n\n")
    builtin: Any = request.template_kwargs.get("builtin_tools")
    if builtin:
        out.scaffold("# Tools\n\n")
        out.scaffold("".join(text for name, text in BUILTIN.items() if name in builtin))
    out.scaffold(CHANNELS).scaffold(CALLS_GO_TO if _has_tools(request) else "").scaffold("<|end|>")


def _has_tools(request: ChatRequest) -> bool:
    return len(request.tools) > 0


def _effort(request: ChatRequest) -> str:
    asked = request.template_kwargs.get("reasoning_effort", request.reasoning_effort)
    if asked is None:
        return "medium"
    if asked not in EFFORTS:
        raise RequestError(
            f"this model's reasoning_effort is low, medium or high, not {asked!r}",
            param="reasoning_effort",
        )
    return str(asked)


def _developer(out: PromptBuilder, request: ChatRequest) -> int:
    """Print the instructions and the tools; return the index of the message after them."""
    given = bool(request.messages) and request.messages[0].role in ("system", "developer")
    instructions = content(request.messages[0], 0) if given else ""
    if given:
        left_open(request, 0)
    if instructions or _has_tools(request):
        out.scaffold("<|start|>developer<|message|>")
        if instructions:
            out.scaffold("# Instructions\n\n").content(instructions).scaffold("\n\n")
        if _has_tools(request):
            out.scaffold("# Tools\n\n").content(functions(request.tools))
        out.scaffold("<|end|>")
    return int(given)


# -- the conversation --------------------------------------------------------------------------


def _message(
    out: PromptBuilder, request: ChatRequest, index: int, called: str | None
) -> str | None:
    """Print a message.

    Args:
        out: Where to.
        request: The request.
        index: Which of its messages.
        called: Name of the tool that was called last and may have answers.

    Returns:
        The same for the next message.
    """
    message = request.messages[index]
    text = content(message, index)
    is_open = left_open(request, index)
    if message.role == "assistant" and message.tool_calls:
        _call(out, request, index)
        return message.tool_calls[0].name
    if message.role == "assistant":
        _answer(out, request, index)
        is_trained_on = index == len(request.messages) - 1 and not request.add_generation_prompt
        return called if is_trained_on else None
    if message.role == "tool":
        if called is None:
            raise RequestError(
                "this model's chat template takes the result of a tool only after a tool call",
                param=f"messages[{index}].role",
            )
        out.scaffold("<|start|>functions.").content(called)
        out.scaffold(" to=assistant<|channel|>commentary<|message|>").content(tojson(text))
        out.scaffold("<|end|>")
    elif message.role == "user":
        out.turn("<|start|>user<|message|>", text, "" if is_open else "<|end|>")
    else:
        raise RequestError(
            "this model takes one system or developer message, at the beginning; "
            f"messages[{index}] is from {message.role}",
            param=f"messages[{index}].role",
        )
    return called


def _say(out: PromptBuilder, channel: str, text: str, closing: str = "<|end|>") -> None:
    out.turn(f"<|start|>assistant<|channel|>{channel}<|message|>", text, closing)


def _answer(out: PromptBuilder, request: ChatRequest, index: int) -> None:
    """Print an answer; of its thinking only what the model goes on from."""
    message = request.messages[index]
    text = content(message, index)
    _check_channels(text, f"messages[{index}].content")
    is_last = index == len(request.messages) - 1
    is_open = left_open(request, index)
    goes_on = is_last and (is_open or not request.add_generation_prompt)
    if goes_on and message.reasoning is not None:
        _check_channels(message.reasoning, f"messages[{index}].reasoning_content")
        _say(out, "analysis", message.reasoning)
    closing = "<|return|>" if goes_on else "<|end|>"
    _say(out, "final", text, "" if is_open else closing)


def _call(out: PromptBuilder, request: ChatRequest, index: int) -> None:
    """Print a tool call, and before it what was thought, until there is an answer."""
    message = request.messages[index]
    if len(message.tool_calls) > 1:
        raise RequestError(
            "this model's chat template takes one tool call in a message: send each call and its "
            "result in turn",
            param=f"messages[{index}].tool_calls",
        )
    text, thinking = content(message, index), message.reasoning or ""
    _check_channels(text, f"messages[{index}].content")
    _check_channels(thinking, f"messages[{index}].reasoning_content")
    answered = any(m.role == "assistant" and not m.tool_calls for m in request.messages[index:])
    if not answered and (thinking or text):
        _say(out, "analysis", thinking or text)
    if thinking and text:
        # The template refuses both. The format has a place for words before a call.
        _say(out, "commentary", text)
    call = message.tool_calls[0]
    param = f"messages[{index}].tool_calls[0].function.arguments"
    arguments = tojson(arguments_object(call.arguments, param=param))
    out.scaffold("<|start|>assistant to=functions.").content(call.name)
    out.scaffold("<|channel|>commentary json<|message|>").content(arguments).scaffold("<|call|>")


def _check_channels(text: str, param: str) -> None:
    """Refuse an answer that was sent back as the model wrote it, headers and all."""
    if any(f"<|channel|>{c}<|message|>" in text for c in ("analysis", "final")):
        raise RequestError(
            "this model's chat template takes the text of an answer without <|channel|> headers: "
            "thinking as reasoning_content, the answer as content",
            param=param,
        )
