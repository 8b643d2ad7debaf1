"""Mistral v0.3, Mistral Nemo and Mistral Small 3.2.

All want turns of user and assistant by turns and identifiers of calls of nine characters; they
differ in where the system text and the tools stand, and in how a call is written.
Source: the chat templates of mistralai/Mistral-Nemo-Instruct-2407 and, for
mistralai/Mistral-Small-3.2-24B-Instruct-2506, the one that llama.cpp carries. v0.3 has the examples
of tokenizer V3 in https://github.com/mistralai/cookbook, concept-deep-dive/tokenization/
{templates,tool_calling}.md, and like its template prints an answer without white space around it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import partial

from attrs import evolve, frozen

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
    Mismatch,
    ModelInfo,
    Prompt,
    PromptBuilder,
    Scan,
    TextParser,
    calls_are_constrained,
    check_template_kwargs,
    json_text,
    literal,
    may_call_tools,
    peek,
    read_calls,
    run_of,
    spaces,
    system_as_user,
    text_before_calls,
)
from jarvis_formats import mistral_nemo, mistral_small
from jarvis_formats.mistral_rules import ID_LENGTH, short_ids

FAMILY = "mistral"
_NAME = re.compile(r"[^\s\[\]{}\"]*")


@frozen(kw_only=True)
class Variant:
    """What differs between the models of the family.

    Attributes:
        system_turn: The system text has a turn of its own, and a default; else it stands in the
            last turn of the user.
        calls: How a call is written.
        space: What stands between a tag and text.
    """

    system_turn: bool
    calls: CallSyntax
    space: str = ""


def _array_after(tag: str) -> CallSyntax:
    return CallSyntax(
        before=f"{tag}[",
        call=('{"name": "', CallName(), '", "arguments": ', CallArguments(), "}"),
        between=", ",
        after="]",
        marker="[TOOL_CALLS]",
    )


V03 = Variant(system_turn=False, calls=_array_after("[TOOL_CALLS] "), space=" ")
NEMO = Variant(system_turn=False, calls=_array_after("[TOOL_CALLS]"))
SMALL32 = Variant(
    system_turn=True,
    calls=CallSyntax(
        call=("[TOOL_CALLS]", CallName(), "[ARGS]", CallArguments()),
        between="",
        marker="[TOOL_CALLS]",
    ),
)


@frozen(kw_only=True)
class Mistral:
    """The format; without a ``variant`` the model decides."""

    name: str
    variant: Variant | None = None
    aliases: tuple[str, ...] = ()

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        check_template_kwargs(request)
        eos = context.model.eos_token or "</s>"
        out = PromptBuilder().scaffold(context.model.bos_token or "<s>")
        variant = self.variant or variant_of(context.model)
        if variant.system_turn:
            mistral_small.print_turns(out, request, eos=eos, now=context.now)
        else:
            mistral_nemo.print_turns(out, request, eos=eos, space=variant.space)
        # A model that knows its own end needs no stop string, and "</s>" may be HTML in an answer.
        return out.build(stop=() if context.model.eos_token else (eos,))

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """Text before calls, short identifiers; then also the system text as the user's own."""
        told = short_ids(text_before_calls(request))
        return [told, system_as_user(told, last=True)]

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads calls after ``[TOOL_CALLS]`` where the request has tools."""
        if not may_call_tools(request):
            return TextParser()
        syntax = self._syntax(context.model)
        return CallParser(
            syntax.scan if calls_are_constrained(request) else scan_calls,
            markers=["[TOOL_CALLS]"],
            make_id=partial(_make_id, len(request.messages)),
        )

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call, or several, in the syntax of the variant."""
        return self._syntax(context.model).forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """Text, or calls in the syntax of the variant."""
        return AnswerSyntax(calls=self._syntax(context.model))

    def _syntax(self, model: ModelInfo) -> CallSyntax:
        return (self.variant or variant_of(model)).calls


FORMATS = (
    Mistral(name=FAMILY, aliases=("mistral-instruct",)),
    Mistral(name="mistral-v0.3", variant=V03, aliases=("mistral-v3", "mistral-7b-instruct-v0.3")),
    Mistral(name="mistral-nemo", variant=NEMO, aliases=("mistral-v3-tekken",)),
    Mistral(name="mistral-small-3.2", variant=SMALL32),
)


def variant_of(model: ModelInfo) -> Variant:
    """The variant that a model's own template prints; by its name if it has no template."""
    if model.chat_template:
        if "[SYSTEM_PROMPT]" in model.chat_template:
            return SMALL32
        return V03 if "[INST] " in model.chat_template else NEMO
    names = f"{model.title} {model.source}".lower()
    if re.search(r"small[-_ ]?(3|.*2506)", names):
        return SMALL32
    return V03 if re.search(r"v0\.3", names) else NEMO


def detect(model: ModelInfo) -> bool:
    """Whether the model surely prints what one of the templates prints."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return bool(
            re.search(r"mistral[-_ ]?(nemo|small[-_ ]?3\.2|7b[-_ ]instruct[-_ ]v0\.3)", names)
        )
    v03 = ("[AVAILABLE_TOOLS] [", "[TOOL_CALLS] [", '"[INST] "', "|trim + eos_token")
    nemo = ("[AVAILABLE_TOOLS][", "[TOOL_CALLS][", '"[INST]"')
    both = ('"call_id": "', "loop.last and system_message")
    small = ("[SYSTEM_PROMPT]", "[CALL_ID]", "[TOOL_CONTENT]", "# TOOL CALLING INSTRUCTIONS")
    known = ((*v03, *both), (*nemo, *both), small)
    return any(all(mark in template for mark in marks) for marks in known)


def scan_calls(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    """Calls after ``[TOOL_CALLS]``, in the older and in the newer syntax."""
    yield from spaces(cursor)
    if (yield from peek(cursor)) == "[":
        text = yield from json_text(cursor, opening="[")
        return [_without_odd_id(call) for call in read_calls(text)]
    name = yield from run_of(cursor, _NAME)
    if not name:
        raise Mismatch
    call_id = None
    if (yield from literal(cursor, "[CALL_ID]", "[ARGS]")) == "[CALL_ID]":
        call_id = yield from run_of(cursor, _NAME)
        yield from literal(cursor, "[ARGS]")
    yield from spaces(cursor)
    arguments = yield from json_text(cursor, opening="{")
    return [_without_odd_id(Call(name=name, arguments=arguments, id=call_id))]


def _without_odd_id(call: Call) -> Call:
    return call if call.id is not None and len(call.id) == ID_LENGTH else evolve(call, id=None)


def _make_id(turn: int, index: int, name: str) -> str:
    """An identifier that the templates print: no other call of the conversation has it."""
    return hashlib.sha256(f"{turn} {index} {name}".encode()).hexdigest()[:ID_LENGTH]
