"""Gemma 4: turns of model and others, a channel for thoughts, calls in a syntax of its own.

A tool is answered within the turn of the model, which goes on behind the answer.
Source: the chat template of google/gemma-4-31B-it.
"""

from __future__ import annotations

import re

from attrs import frozen

from jarvis_core import (
    AnswerSyntax,
    Call,
    CallArguments,
    CallName,
    CallParser,
    CallSyntax,
    ChatRequest,
    Constraint,
    Cursor,
    DeltaParser,
    FormatContext,
    Message,
    Mismatch,
    ModelInfo,
    Prompt,
    PromptBuilder,
    ReasoningParser,
    RequestError,
    Scan,
    TextParser,
    TextPart,
    arguments_object,
    check_template_kwargs,
    left_open,
    literal,
    may_call_tools,
    run_of,
    spaces,
    text_of,
    thinking_wanted,
)
from jarvis_formats.gemma4_grammar import arguments
from jarvis_formats.gemma4_syntax import print_members, print_text, scan_object
from jarvis_formats.gemma4_tools import print_tool

FAMILY = "gemma4"
STOP = ("<turn|>", "<|tool_response>", "<|turn>", "<eos>")
THOUGHT = "<|channel>thought"
IMAGE = "<|image|>"
CALLS = CallSyntax(
    call=("<|tool_call>call:", CallName(), "{", CallArguments(write=arguments), "}<tool_call|>"),
    between="",
    marker="<|tool_call>",
)
_NAME = re.compile(r"[^\s{}:<]*")


@frozen(kw_only=True)
class Gemma4:
    """The format."""

    name: str

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request, "enable_thinking")
        if not self.media(context.model):
            for i, message in enumerate(request.messages):
                text_of(message, param=f"messages[{i}].content")
        thinks = thinking_wanted(request, default=False)
        out = PromptBuilder().scaffold(context.model.bos_token or "<bos>")
        goes_on = False
        for i in range(_system_turn(out, request, thinks=thinks), len(request.messages)):
            message = request.messages[i]
            if message.role != "tool":
                goes_on = _turn(out, request, i)
            elif _called_by(request, i) is None:
                raise RequestError(
                    "this model's chat template takes the result of a tool only after a tool call",
                    param=f"messages[{i}].role",
                )
        if request.add_generation_prompt and not request.continue_final_message and not goes_on:
            out.scaffold("<|turn>model\n").scaffold("" if thinks else f"{THOUGHT}\n<channel|>")
        return out.build(stop=STOP)

    def media(self, model: ModelInfo) -> tuple[str, ...]:
        """Images, where the model's template prints them as here: earlier ones put lines around."""
        prints_it = f"'{IMAGE}'" in (model.chat_template or "")
        return ("image",) if prints_it and model.placeholders.get("image") == IMAGE else ()

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads a thought where the answer begins, and calls if there are tools."""
        answer: DeltaParser = TextParser()
        if may_call_tools(request):
            answer = CallParser(scan_call, markers=["<|tool_call>"])
        return ReasoningParser(answer, opening=THOUGHT, closing="<channel|>")

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call, or several, one right behind the other."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """A thought if the model is told to think, then text, or calls."""
        if not thinking_wanted(request, default=False) or request.continue_final_message:
            return AnswerSyntax(calls=CALLS)
        return AnswerSyntax(opening=f"{THOUGHT}\n", closing="<channel|>", calls=CALLS)


FORMATS = (Gemma4(name=FAMILY),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is an instructed Gemma 4 with its publisher's template."""
    tokens = {"<|turn>", "<turn|>", "<|tool_call>", "<|channel>"}
    if not model.chat_template:
        names = f"{model.title} {model.source}".lower()
        return (
            model.architecture == "gemma4"
            and tokens <= set(model.control_tokens)
            and bool(re.search(r"gemma.*[-_ ]it\b", names))
        )
    marks = (
        *tokens,
        "<|tool_call>call:",
        "format_function_declaration",
        "strip_thinking",
        "last_user_idx",
        "continue_same_model_turn",
    )
    return all(mark in model.chat_template for mark in marks)


def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A call after its opening tag."""
    yield from spaces(cursor)
    yield from literal(cursor, "call:")
    name = yield from run_of(cursor, _NAME)
    members = yield from scan_object(cursor)
    yield from spaces(cursor)
    yield from literal(cursor, "<tool_call|>")
    if not name:
        raise Mismatch
    return [Call(name=name, arguments=members)]


# -- turns -------------------------------------------------------------------------------------


def _content(out: PromptBuilder, message: Message) -> None:
    """Print the content as the template does: each text without white space at its ends.

    Of what the assistant said, thoughts are left out.
    """
    content = message.content
    for part in (TextPart(text=content),) if isinstance(content, str) else content or ():
        if not isinstance(part, TextPart):
            out.media(part)
            continue
        text = part.text
        if message.role == "assistant":
            text = "".join(t.split("<|channel>")[0] for t in text.split("<channel|>"))
        out.content(text.strip())


def _system_turn(out: PromptBuilder, request: ChatRequest, *, thinks: bool) -> int:
    """Print the system turn if there is anything for it; return the index of the next message."""
    given = bool(request.messages) and request.messages[0].role in ("system", "developer")
    if not (given or thinks or len(request.tools)):
        return 0
    out.scaffold("<|turn>system\n").scaffold("<|think|>\n" if thinks else "")
    if given:
        left_open(request, 0)
        out.content(text_of(request.messages[0], param="messages[0].content").strip())
    for tool in request.tools:
        print_tool(out, tool)
    out.scaffold("<turn|>\n")
    return int(given)


def _turn(out: PromptBuilder, request: ChatRequest, index: int) -> bool:
    """Print a message and the results of its calls; return whether the model's turn goes on."""
    message = request.messages[index]
    is_open = left_open(request, index)
    if not _follows_the_model(request, index):
        role = "model" if message.role == "assistant" else message.role
        out.scaffold("<|turn>").content(role).scaffold("\n")
    _thought(out, request, index)
    for k, call in enumerate(message.tool_calls):
        param = f"messages[{index}].tool_calls[{k}].function.arguments"
        out.scaffold("<|tool_call>call:").content(call.name)
        members = arguments_object(call.arguments, param=param)
        if not isinstance(members, dict):
            raise RequestError("arguments of a tool call must be an object", param=param)
        print_members(out, members)
        out.scaffold("<tool_call|>")
    answered = _results(out, request, index)
    _content(out, message)
    if message.tool_calls and not answered:
        out.scaffold("<|tool_response>")
    elif not is_open and not (answered and not message.content):
        out.scaffold("<turn|>\n")
    return bool(message.tool_calls)


def _follows_the_model(request: ChatRequest, index: int) -> bool:
    """Whether a message of the assistant goes on with the turn before it."""
    messages = request.messages
    if messages[index].role != "assistant":
        return False
    earlier = (m.role for m in reversed(messages[:index]) if m.role != "tool")
    return next(earlier, None) == "assistant"


def _thought(out: PromptBuilder, request: ChatRequest, index: int) -> None:
    """Print what was thought before a call, until the user speaks again."""
    message = request.messages[index]
    spoken = any(m.role == "user" for m in request.messages[index:])
    if message.reasoning and message.tool_calls and not spoken:
        out.scaffold(f"{THOUGHT}\n").content(message.reasoning).scaffold("\n<channel|>")


def _results(out: PromptBuilder, request: ChatRequest, index: int) -> bool:
    """Print the results right behind a message that calls; return whether there are any."""
    message = request.messages[index]
    end = index + 1
    while message.tool_calls and end < len(request.messages):
        result = request.messages[end]
        if result.role != "tool":
            break
        names = (c.name for c in reversed(message.tool_calls) if c.id == result.tool_call_id)
        out.scaffold("<|tool_response>response:")
        out.content(next(names, result.name or "unknown")).scaffold("{value:")
        print_text(out, text_of(result, param=f"messages[{end}].content", separator=""))
        out.scaffold("}<tool_response|>")
        end += 1
    return end > index + 1


def _called_by(request: ChatRequest, index: int) -> int | None:
    """Index of the message whose calls a result of a tool answers."""
    for i in range(index - 1, -1, -1):
        if request.messages[i].role != "tool":
            return i if request.messages[i].tool_calls else None
    return None
