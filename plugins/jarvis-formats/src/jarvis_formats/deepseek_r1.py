"""DeepSeek R1 and the models distilled from it, which always think before they answer.

The template prints no tools; it does print calls and their results, and its slips with them (only
the first group of calls, and of results, in a conversation is opened; a single call is not closed).
Source: the chat template of deepseek-ai/DeepSeek-R1-Distill-Llama-8B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    arguments_object,
    calls_are_constrained,
    check_template_kwargs,
    continues_reasoning,
    developer_as_system,
    json_text,
    left_open,
    literal,
    may_call_tools,
    run_of,
    spaces,
    text_before_calls,
    thinking_wanted,
)
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_text, unknown_role

FAMILY = "deepseek_r1"
EOS = "<｜end▁of▁sentence｜>"
STOP = (EOS, "<｜User｜>", "<｜Assistant｜>", "<｜tool▁outputs▁begin｜>")
CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
CALLS_END = "<｜tool▁calls▁end｜>"
CALL_BEGIN = "<｜tool▁call▁begin｜>"
CALL_END = "<｜tool▁call▁end｜>"
CALLS = CallSyntax(
    before=CALLS_BEGIN,
    call=(
        f"{CALL_BEGIN}function<｜tool▁sep｜>",
        CallName(),
        "\n```json\n",
        CallArguments(),
        f"\n```{CALL_END}",
    ),
    between="\n",
    after=CALLS_END,
    marker=CALLS_BEGIN,
)
_NAME = re.compile(r"[^\s<>`｜]*")


@frozen(kw_only=True)
class DeepSeekR1:
    """The format."""

    name: str

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request, "enable_thinking")
        if not thinking_wanted(request, default=True):
            raise RequestError(
                "this model always thinks: leave enable_thinking and reasoning_effort out",
                param="chat_template_kwargs.enable_thinking"
                if "enable_thinking" in request.template_kwargs
                else "reasoning_effort",
            )
        messages = developer_as_system(request.messages)
        bos = context.model.bos_token or "<｜begin▁of▁sentence｜>"
        out = PromptBuilder().scaffold(bos).content(_system_text(messages))
        turns = _Turns(out)
        for i, message in enumerate(messages):
            turns.add(message, i, is_open=left_open(request, i))
        asked = request.add_generation_prompt and not request.continue_final_message
        thinking = turns.close(asked=asked) or continues_reasoning(
            request, opening="<think>", closing="</think>"
        )
        return out.build(stop=STOP, starts_in_reasoning=thinking)

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Text in a message before calls: the template prints one of both."""
        return [text_before_calls(request)]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that tells reasoning from the answer and its calls."""
        answer: DeltaParser = TextParser()
        if calls_are_constrained(request):
            answer = CallParser(CALLS.scan, markers=[CALLS_BEGIN])
        elif may_call_tools(request):
            answer = CallParser(scan_call, markers=[CALLS_BEGIN, CALL_BEGIN], ending=CALLS_END)
        return ReasoningParser(answer, inside=prompt.starts_in_reasoning)

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call between its tokens, or several."""
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Reasoning, then text or calls."""
        return AnswerSyntax(opening="<think>", closing="</think>", calls=CALLS)


FORMATS = (DeepSeekR1(name=FAMILY),)


def detect(model: ModelInfo) -> bool:
    """Whether the model surely is an R1 whose template opens the reasoning."""
    template = model.chat_template or ""
    marks = (
        "<｜Assistant｜><think>\\n",
        "ns.is_output_first",
        CALLS_BEGIN,
        "content.split('</think>')[-1]",
    )
    strange = r"is_first_sp|is_last_user|thinking|tools|search|raise_exception"
    return all(mark in template for mark in marks) and not re.search(strange, template)


def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """A call after its opening marker, or the first call after the one that opens them all."""
    if marker == CALLS_BEGIN:
        yield from spaces(cursor)
        yield from literal(cursor, CALL_BEGIN)
    yield from literal(cursor, "function<｜tool▁sep｜>")
    name = yield from run_of(cursor, _NAME)
    if not name:
        raise Mismatch
    yield from literal(cursor, "\n```json\n")
    arguments = yield from json_text(cursor, opening="{")
    yield from spaces(cursor)
    yield from literal(cursor, "```")
    yield from spaces(cursor)
    yield from literal(cursor, CALL_END)
    return [Call(name=name, arguments=arguments)]


# -- turns -------------------------------------------------------------------------------------


def _system_text(messages: Sequence[Message]) -> str:
    """The system text. The template prints the last one only, before everything else."""
    texts = {i: m for i, m in enumerate(messages) if m.role == "system"}
    if len(texts) > 1:
        raise RequestError(
            "this model's chat template prints one system message only: put all into one",
            param=f"messages[{max(texts)}].role",
        )
    return "".join(content(m, i) for i, m in texts.items())


class _Turns:
    """Prints turn after turn, and knows what the template remembers of the turns before."""

    def __init__(self, out: PromptBuilder) -> None:
        self._out = out
        self._behind_result = False
        self._calls_opened = False
        self._results_opened = False

    def add(self, message: Message, index: int, *, is_open: bool) -> None:
        text = content(message, index)
        if message.role == "system":
            return
        if message.role == "user":
            self._behind_result = False
            self._out.scaffold("<｜User｜>").content(text)
        elif message.role == "tool":
            self._add_result(text)
        elif message.role != "assistant":
            raise unknown_role(message, index)
        elif message.tool_calls:
            self._add_calls(message, index, text)
        else:
            self._add_answer(text)
            self._out.scaffold("" if is_open else EOS)

    def close(self, *, asked: bool) -> bool:
        """End the prompt; tell whether it opens the reasoning."""
        if self._behind_result:
            self._out.scaffold("<｜tool▁outputs▁end｜>")
        elif asked:
            self._out.scaffold("<｜Assistant｜><think>\n")
        return asked and not self._behind_result

    def _add_answer(self, text: str) -> None:
        if self._behind_result:
            self._behind_result = False
            self._out.scaffold("<｜tool▁outputs▁end｜>").content(text)
        else:
            self._out.scaffold("<｜Assistant｜>").content(text.split("</think>")[-1])

    def _add_result(self, text: str) -> None:
        self._behind_result = True
        self._out.scaffold("\n" if self._results_opened else "<｜tool▁outputs▁begin｜>")
        self._results_opened = True
        self._out.scaffold("<｜tool▁output▁begin｜>").content(text)
        self._out.scaffold("<｜tool▁output▁end｜>")

    def _add_calls(self, message: Message, index: int, text: str) -> None:
        check_no_text(message, index)
        self._behind_result = False
        for k, call in enumerate(message.tool_calls):
            param = f"messages[{index}].tool_calls[{k}].function.arguments"
            arguments_object(call.arguments, param=param)
            is_first, self._calls_opened = not self._calls_opened, True
            self._out.scaffold(f"<｜Assistant｜>{CALLS_BEGIN}" if is_first else "\n")
            self._out.scaffold(f"{CALL_BEGIN}function<｜tool▁sep｜>").content(call.name)
            self._out.scaffold("\n```json\n").content(call.arguments or "{}")
            self._out.scaffold(f"\n```{CALL_END}" + ("" if is_first else CALLS_END + EOS))
