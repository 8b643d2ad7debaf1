"""The kit for chat formats passes a right format, and fails one for each thing it may do wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from attrs import evolve

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
    Delta,
    DeltaParser,
    FormatContext,
    PluginError,
    Prompt,
    PromptBuilder,
    ReasoningParser,
    RequestError,
    Scan,
    TextParser,
    calls_are_constrained,
    check_template_kwargs,
    json_text,
    literal,
    may_call_tools,
    read_call,
    text_of,
)
from jarvis_core.testing import (
    ChatFormatConformance,
    chunkings,
    parse_agrees,
    parse_case,
    render_agrees,
    render_case,
)


def scan_call(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    text = yield from json_text(cursor, opening="{")
    yield from literal(cursor, "</call>")
    return [read_call(text)]


CALLS = CallSyntax(
    call=('<call>{"name": "', CallName(), '", "arguments": ', CallArguments(), "}</call>"),
    between="\n",
    marker="<call>",
)
SIGNED = evolve(CALLS, call=("§", CallName(), ":", CallArguments()), marker="§")
OTHER_CALLS = evolve(CALLS, call=("<call>", *CALLS.call[1:]))


class Right:
    """A small format that does everything right."""

    name = "right"

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        check_template_kwargs(request)
        out = PromptBuilder()
        for message in request.messages:
            out.scaffold("<|user|>").content(text_of(message))
        return out.build(stop=["<|user|>"])

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        if not may_call_tools(request):
            return TextParser()
        scan = CALLS.scan if calls_are_constrained(request) else scan_call
        return CallParser(scan, markers=["<call>"])

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        return AnswerSyntax(calls=CALLS)


class Ignores(Right):
    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        return super().render(evolve(request, template_kwargs={}), context)


class ForcesOtherCalls(Right):
    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        return OTHER_CALLS.forced(request, context.model)


class ThinksUnsaid(Right):
    """Its answers begin inside of reasoning, of which it says nothing to constraints."""

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return ReasoningParser(super().parser(request, context, prompt), inside=True)


class LetsOtherCallsBe(Right):
    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        return AnswerSyntax(calls=OTHER_CALLS)


class Smuggles(Right):
    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        out = PromptBuilder()
        for message in request.messages:
            out.scaffold("<|user|>" + text_of(message))
        return out.build()


class LosesMessages(Right):
    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        return super().render(evolve(request, messages=request.messages[-1:]), context)


class Remembers(Right):
    def __init__(self) -> None:
        self.count = 0

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        self.count += 1
        prompt = super().render(request, context)
        return evolve(prompt, stop=(*prompt.stop, str(self.count)))


class Crashes(Right):
    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        for message in request.messages:
            if message.content is None:
                raise TypeError("null")
        return super().render(request, context)


class ShoutsItsName(Right):
    name = "Right Format"


class _Dropping:
    """Drops what does not fit into one piece of text."""

    def __init__(self, drop: Callable[[str], str]) -> None:
        self._drop = drop

    def feed(self, text: str) -> Iterable[Delta]:
        return [Delta(content=self._drop(text))]

    def finish(self) -> Iterable[Delta]:
        return []


class CutsAtPieces(Right):
    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return _Dropping(lambda text: text.replace("<tool_call>", ""))


class LosesWhiteSpace(Right):
    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return _Dropping(str.strip)


class LosesDigits(Right):
    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return _Dropping(lambda text: "".join(c for c in text if not c.isdigit()))


class SharesItsParser(Right):
    def __init__(self) -> None:
        self.one = CallParser(scan_call, markers=["<tool_call>"])

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return self.one


class SignsCalls(Right):
    """Its marks look like none: only a model that has them as control tokens shows its fault."""

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        tokens = context.model.control_tokens
        return (OTHER_CALLS if "§" in tokens else SIGNED).forced(request, context.model)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return CallParser(SIGNED.scan, markers=["§"])

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        return AnswerSyntax(calls=SIGNED)


class TestRight(ChatFormatConformance):
    """The kit as an author uses it."""

    raw_answers = ('see <call>{"name": "f", "arguments": {"x": "</call>"}}</call>',)
    render_goldens = (
        {
            "name": "user",
            "messages": [{"role": "user", "content": "Hi"}],
            "kwargs": {"add_generation_prompt": True},
            "expected": "<|user|>Hi",
        },
    )
    parse_goldens = (
        {
            "name": "call",
            "raw": '<call>{"name": "f", "arguments": {}}</call>',
            "engine_finish": "stop",
            "ws": "exact",
            "expected": {
                "content": None,
                "tool_calls": [{"name": "f", "arguments": {}}],
                "finish_reason": "tool_calls",
            },
        },
    )

    @pytest.fixture
    def chat_format(self) -> Right:
        return Right()


@pytest.mark.parametrize(
    ("chat_format", "test"),
    [
        (Smuggles(), "test_control_tokens_of_a_user_stay_text"),
        (LosesMessages(), "test_no_message_is_lost"),
        (Remembers(), "test_rendering_is_pure"),
        (ShoutsItsName(), "test_its_name_is_what_an_operator_can_write"),
        (CutsAtPieces(), "test_where_an_answer_is_cut_carries_no_meaning"),
        (LosesWhiteSpace(), "test_plain_text_comes_back_to_the_character"),
        (LosesDigits(), "test_no_word_of_an_answer_is_lost"),
        (Ignores(), "test_nothing_that_is_asked_of_a_template_is_ignored_in_silence"),
        (
            ForcesOtherCalls(),
            "test_what_a_forced_choice_makes_a_model_write_is_read_as_that_call",
        ),
        (LetsOtherCallsBe(), "test_calls_that_may_be_made_are_right_if_they_are"),
        (SharesItsParser(), "test_every_answer_has_its_own_parser"),
    ],
)
def test_a_wrong_format_fails(chat_format: Any, test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(ChatFormatConformance(), test)(chat_format)


def test_control_tokens_of_the_model_are_marks_of_calls() -> None:
    class Kit(ChatFormatConformance):
        model = evolve(ChatFormatConformance.model, control_tokens=("§",))

    with pytest.raises(AssertionError):
        Kit().test_what_a_forced_choice_makes_a_model_write_is_read_as_that_call(SignsCalls())


def test_reasoning_that_constraints_do_not_know_of_fails() -> None:
    with pytest.raises(ValueError):  # there is no JSON where content should be
        ChatFormatConformance().test_content_obeys_its_schema_after_any_reasoning(ThinksUnsaid())


def test_an_error_that_is_not_the_clients_passes_no_test() -> None:
    with pytest.raises(TypeError):
        ChatFormatConformance().test_what_is_not_rendered_is_refused_as_a_request_error(Crashes())


def test_goldens_that_do_not_agree_fail() -> None:
    class Wrong(ChatFormatConformance):
        render_goldens = ({**TestRight.render_goldens[0], "expected": "Hi"},)
        parse_goldens = ({**TestRight.parse_goldens[0], "raw": "x"},)

    with pytest.raises(AssertionError):
        Wrong().test_golden_prompts_are_equal(Right())
    with pytest.raises(AssertionError):
        Wrong().test_golden_answers_are_parsed(Right())


# -- cases -------------------------------------------------------------------------------------


def test_a_format_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(PluginError, match="'nope' does not exist.*template"):
        render_case("nope", {"messages": []})


def test_a_case_for_the_template_brings_it() -> None:
    case = {
        "messages": [{"role": "critic", "content": "x", "reasoning_content": "why"}],
        "kwargs": {"add_generation_prompt": True, "colour": "red"},
        "chat_template": "{{ bos_token }}{{ messages | tojson }}{{ colour }}"
        "{{ strftime_now('%F') }}",
        "bos_token": "<s>",
        "fixed_date": "2030-12-31",
    }
    printed = '<s>[{"role": "critic", "content": "x", "reasoning_content": "why"}]red2030-12-31'
    assert render_case("template", case) == printed


def test_open_and_opened_turns_exclude_each_other() -> None:
    kwargs = {"add_generation_prompt": True, "continue_final_message": True}
    with pytest.raises(RequestError, match="exclude each other"):
        render_case("template", {"messages": [], "kwargs": kwargs, "chat_template": "x"})


def test_an_answer_without_calls_ends_as_the_engine_says() -> None:
    case = {"engine_finish": "length", "tools_declared": ["f"]}
    assert parse_case("template", case, ["a", "b"]) == {
        "content": "ab",
        "reasoning": None,
        "tool_calls": [],
        "finish_reason": "length",
    }


def test_every_cut_of_a_text_is_that_text() -> None:
    cuts = list(chunkings("abcdefghij"))
    assert all("".join(cut) == "abcdefghij" for cut in cuts)
    assert ["abcdefghij"] in cuts
    assert list("abcdefghij") in cuts
    assert ["abc", "defghij"] in cuts


REFUSAL = RequestError("no")


@pytest.mark.parametrize(
    ("case", "outcome", "agrees"),
    [
        ({"expected": "x"}, "x", True),
        ({"expected": "x"}, "x ", False),
        ({"expected": "x"}, REFUSAL, False),
        ({"expected": "x", "artefact": "text-lost"}, REFUSAL, True),
        ({"expected": "x", "artefact": "a", "normalized": {"expected": "y"}}, "y", True),
        ({"expected": "x", "normalized": {"expected": "y"}}, "y", False),
        ({"error": "no"}, REFUSAL, True),
        ({"error": "no"}, "x", False),
        ({"error": "no", "normalized": {"expected": "y"}}, "y", True),
    ],
)
def test_a_prompt_is_equal_refused_or_normalized(
    case: dict[str, Any], outcome: str | Exception, agrees: bool
) -> None:
    assert render_agrees(case, outcome) is agrees


RESULT = {"content": " x ", "tool_calls": [], "finish_reason": "stop"}
CALLED = {**RESULT, "tool_calls": [{"name": "f", "arguments": '{"a": 1}', "id": "1"}]}


@pytest.mark.parametrize(
    ("space", "change", "result", "agrees"),
    [
        ("exact", {}, RESULT, True),
        ("exact", {"content": "x"}, RESULT, False),
        ("strip", {"content": "x"}, RESULT, True),
        ("ignore", {"content": "  x"}, RESULT, True),
        ("exact", {"finish_reason": "length"}, RESULT, False),
        ("exact", {"reasoning": "why"}, RESULT, False),
        ("exact", {"content_contains": ["x"]}, RESULT, True),
        ("exact", {"content_contains": ["y"]}, RESULT, False),
        ("exact", {}, CALLED, False),
        ("exact", {"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}, CALLED, True),
        ("exact", {"tool_calls": [{"name": "f", "arguments": {"a": 2}}]}, CALLED, False),
        ("exact", {"tool_calls": [{"name": "g", "arguments": {"a": 1}}]}, CALLED, False),
        ("exact", {"tool_calls": [{"name": "f", "arguments": {"a": 1}, "id": "2"}]}, CALLED, False),
    ],
)
def test_an_answer_agrees_in_every_part(
    space: str, change: dict[str, Any], result: dict[str, Any], agrees: bool
) -> None:
    case = {"ws": space, "expected": {**RESULT, **change}}
    assert parse_agrees(case, result) is agrees
    other = {"ws": space, "expected": {**RESULT, "finish_reason": "content_filter"}}
    assert parse_agrees({**other, "alternatives": [case["expected"]]}, result) is agrees
