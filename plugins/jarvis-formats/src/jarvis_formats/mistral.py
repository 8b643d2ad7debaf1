"""Mistral Nemo and Mistral Small 3.2.

Both want turns of user and assistant by turns and identifiers of calls of nine characters; they
differ in where the system text and the tools stand, and in how a call is written.
Source: the chat templates of mistralai/Mistral-Nemo-Instruct-2407 and, for
mistralai/Mistral-Small-3.2-24B-Instruct-2506, the one that llama.cpp carries.
"""

from __future__ import annotations

import hashlib
import re

from attrs import evolve, frozen

from jarvis_core import (
    Call,
    CallParser,
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
    json_text,
    literal,
    may_call_tools,
    peek,
    read_calls,
    run_of,
    spaces,
)
from jarvis_formats import mistral_nemo, mistral_small
from jarvis_formats.mistral_rules import ID_LENGTH

FAMILY = "mistral"
_NAME = re.compile(r"[^\s\[\]{}\"]*")


@frozen(kw_only=True)
class Variant:
    """What differs between the models of the family.

    Attributes:
        system_turn: The system text has a turn of its own, and a default; else it stands in the
            last turn of the user.
    """

    system_turn: bool


NEMO = Variant(system_turn=False)
SMALL32 = Variant(system_turn=True)


@frozen(kw_only=True)
class Mistral:
    """The format; without a ``variant`` the model decides."""

    name: str
    variant: Variant | None = None

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, as the publisher's template prints it."""
        eos = context.model.eos_token or "</s>"
        out = PromptBuilder().scaffold(context.model.bos_token or "<s>")
        if (self.variant or variant_of(context.model)).system_turn:
            mistral_small.print_turns(out, request, eos=eos, now=context.now)
        else:
            mistral_nemo.print_turns(out, request, eos=eos)
        # A model that knows its own end needs no stop string, and "</s>" may be HTML in an answer.
        return out.build(stop=() if context.model.eos_token else (eos,))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads calls after ``[TOOL_CALLS]`` where the request has tools."""
        if not may_call_tools(request):
            return TextParser()
        return CallParser(_CallScan(len(request.messages)), markers=["[TOOL_CALLS]"])

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """None: this format cannot force a call."""
        return None


FORMATS = (
    Mistral(name=FAMILY),
    Mistral(name="mistral-nemo", variant=NEMO),
    Mistral(name="mistral-small-3.2", variant=SMALL32),
)


def variant_of(model: ModelInfo) -> Variant:
    """The variant that a model's own template prints; by its name if it has no template."""
    if model.chat_template:
        return SMALL32 if "[SYSTEM_PROMPT]" in model.chat_template else NEMO
    names = f"{model.title} {model.source}".lower()
    return SMALL32 if re.search(r"small[-_ ]?(3|.*2506)", names) else NEMO


def detect(model: ModelInfo) -> bool:
    """Whether the model surely prints what one of the two templates prints."""
    template = model.chat_template
    if not template:
        names = f"{model.title} {model.source}".lower()
        return bool(re.search(r"mistral[-_ ]?(nemo|small[-_ ]?3\.2)", names))
    nemo = ("[AVAILABLE_TOOLS][", '"call_id": "', "[TOOL_CALLS][", '"[INST]"')
    small = ("[SYSTEM_PROMPT]", "[CALL_ID]", "[TOOL_CONTENT]", "# TOOL CALLING INSTRUCTIONS")
    return all(m in template for m in nemo) or all(m in template for m in small)


class _CallScan:
    """Reads calls after ``[TOOL_CALLS]``, in the older and in the newer syntax.

    The templates print no identifier but one of nine characters, so every call gets one here.
    """

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._count = 0

    def __call__(self, cursor: Cursor, marker: str) -> Scan[list[Call]]:
        yield from spaces(cursor)
        if (yield from peek(cursor)) == "[":
            text = yield from json_text(cursor, opening="[")
            return [self._with_id(call) for call in read_calls(text)]
        name = yield from run_of(cursor, _NAME)
        if not name:
            raise Mismatch
        call_id = None
        if (yield from literal(cursor, "[CALL_ID]", "[ARGS]")) == "[CALL_ID]":
            call_id = yield from run_of(cursor, _NAME)
            yield from literal(cursor, "[ARGS]")
        yield from spaces(cursor)
        arguments = yield from json_text(cursor, opening="{")
        return [self._with_id(Call(name=name, arguments=arguments, id=call_id))]

    def _with_id(self, call: Call) -> Call:
        self._count += 1
        if call.id is not None and len(call.id) == ID_LENGTH:
            return call
        seed = f"{self._turn} {self._count} {call.name} {call.arguments}"
        return evolve(call, id=hashlib.sha256(seed.encode()).hexdigest()[:ID_LENGTH])
