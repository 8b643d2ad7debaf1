"""The one constraint of a request, sampled: what it lets a model say."""

from __future__ import annotations

import json
import random
from datetime import datetime
from typing import Any

import pytest
from attrs import evolve, frozen

from jarvis_core import (
    AnswerSyntax,
    CallArguments,
    CallName,
    CallSyntax,
    Capabilities,
    ChatRequest,
    Constraint,
    DeltaParser,
    EngineError,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    TextParser,
    Tool,
    ToolChoice,
    UnsupportedParameter,
)
from jarvis_core.composition import compose_constraint
from jarvis_core.testing import FakeFormat
from jarvis_core.testing.sampling import Sampler

ABLE = Capabilities(constraints=frozenset({"json_schema", "regex", "choice", "lark"}))
MODEL = ModelInfo(name="m", source="m", engine="e", context_length=1, capabilities=ABLE)
CALLS = CallSyntax(
    call=("<call>", CallName(), " ", CallArguments(), "</call>"), between="", marker="<call>"
)
TOOL = Tool(
    spec={
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
)
STRICT = Tool(spec={"type": "function", "function": {**TOOL.spec["function"], "strict": True}})
NUMBER = Constraint(kind="json_schema", value='{"type": "integer", "minimum": 1, "maximum": 9}')
DIGITS = Constraint(kind="regex", value="[0-9]{3}")
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hello"),))
REQUIRED = ToolChoice(mode="required")


SPOKEN = AnswerSyntax(calls=CALLS)


@frozen(kw_only=True)
class Thoughtful:
    """A format that says what stands in its answers."""

    name: str = "thoughtful"
    syntax: AnswerSyntax = SPOKEN

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        return Prompt()

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        return CALLS.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        return self.syntax


PLAIN = Thoughtful()
THINKING = Thoughtful(syntax=AnswerSyntax(opening="<think>", closing="</think>", calls=CALLS))
FRAMED = Thoughtful(syntax=evolve(THINKING.syntax, before_content="<say>"))


def compose(
    request: ChatRequest, chat_format: Any = PLAIN, model: ModelInfo = MODEL, **prompt: Any
) -> Constraint | None:
    context = FormatContext(model=model, now=datetime(2025, 1, 2))
    return compose_constraint(request, chat_format, context, Prompt(**prompt))


def accepts(constraint: Constraint | None, *texts: str) -> list[bool]:
    assert constraint is not None
    sampler = Sampler(constraint, MODEL)
    return [sampler.accepts(text) for text in texts]


CALL = "<call>f {}</call>"


def test_a_free_answer_has_no_constraint() -> None:
    for request in (REQUEST, evolve(REQUEST, tools=(TOOL,))):
        assert compose(request, THINKING) is None
        assert compose(request, FakeFormat()) is None


def test_what_content_has_to_obey_goes_to_the_engine_as_it_is() -> None:
    asked = evolve(REQUEST, constraint=NUMBER)
    assert compose(asked) == compose(asked, FakeFormat()) == NUMBER


def test_a_forced_call_is_the_grammar_of_the_format() -> None:
    request = evolve(REQUEST, tools=(TOOL,), tool_choice=REQUIRED)
    assert accepts(compose(request), CALL, CALL * 2, "text", "") == [True, True, False, False]
    also = evolve(request, constraint=NUMBER)
    assert accepts(compose(also), CALL, "7") == [True, False]


@pytest.mark.parametrize("choice", [REQUIRED, ToolChoice(mode="named", name="g")])
def test_a_call_of_no_tool_cannot_be_forced(choice: ToolChoice) -> None:
    for tools in ((), (TOOL,) if choice.name else ()):
        with pytest.raises(RequestError, match="no such tool"):
            compose(evolve(REQUEST, tools=tools, tool_choice=choice))


def test_content_or_a_call_where_there_are_tools() -> None:
    request = evolve(REQUEST, tools=(TOOL,), constraint=NUMBER)
    assert accepts(compose(request), "7", CALL, "70", "7" + CALL, "") == [True, True, *[False] * 3]
    no_call = evolve(request, tool_choice=ToolChoice(mode="none"))
    assert compose(no_call) == NUMBER


@pytest.mark.parametrize("constraint", [NUMBER, DIGITS, Constraint(kind="choice", value='["7"]')])
def test_thinking_comes_before_whatever_is_asked_for(constraint: Constraint) -> None:
    fine = "777" if constraint is DIGITS else "7"
    request = evolve(REQUEST, constraint=constraint)
    texts = [fine, f"<think>\nx 8</think>\n\n{fine}", "<think>x", f"x</think>{fine}", "x"]
    assert accepts(compose(request, THINKING), *texts) == [True, True, False, False, False]


def test_reasoning_that_the_prompt_has_opened_has_to_end() -> None:
    composed = compose(evolve(REQUEST, constraint=NUMBER), THINKING, starts_in_reasoning=True)
    texts = ["7", "hm 12</think>7", "<think>hm</think>\n7", "hm</think>x"]
    assert accepts(composed, *texts) == [False, True, True, False]


def test_a_forced_call_comes_after_the_reasoning_too() -> None:
    request = evolve(REQUEST, tools=(TOOL,), tool_choice=REQUIRED)
    composed = compose(request, THINKING)
    assert accepts(composed, CALL, f"<think>hm</think>{CALL}", "<think>hm</think>x") == [
        True,
        True,
        False,
    ]


def test_content_in_a_frame_of_its_own() -> None:
    request = evolve(REQUEST, constraint=NUMBER)
    assert accepts(compose(request, FRAMED), "<say>7", "7", "<think>x</think><say>7") == [
        True,
        False,
        True,
    ]
    either = compose(evolve(request, tools=(TOOL,)), FRAMED)
    assert accepts(either, "<say>7", CALL, "<say>" + CALL) == [True, True, False]
    free = compose(evolve(REQUEST, tools=(STRICT,)), FRAMED)
    assert accepts(free, "<say>any text", CALL, "any text") == [True, True, False]


def test_strict_calls_may_be_made_and_are_right_if_they_are() -> None:
    request = evolve(REQUEST, tools=(STRICT,))
    texts = ["", "text", "text " + CALL, CALL * 2, '<call>f {"a": 1}</call>', "<call>g {}</call>"]
    assert accepts(compose(request), *texts) == [True, True, True, True, False, False]


def test_one_call_at_most_where_the_client_wants_no_parallel_ones() -> None:
    request = evolve(REQUEST, tools=(TOOL,), parallel_tool_calls=False)
    assert accepts(compose(request), "text", CALL, CALL * 2) == [True, True, False]
    assert compose(evolve(request, tools=())) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (TOOL,), "tool_choice": REQUIRED}, "tool_choice"),
        ({"tools": (TOOL, STRICT)}, "tools[1].function.strict"),
        ({"tools": (TOOL,), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": (TOOL,), "constraint": NUMBER}, "response_format"),
    ],
)
def test_what_format_or_engine_cannot_do_is_refused_by_name(fields: Any, param: str) -> None:
    request = evolve(REQUEST, **fields)
    with pytest.raises(UnsupportedParameter, match="chat format 'fake' cannot") as caught:
        compose(request, FakeFormat())
    assert caught.value.param == param
    unable = evolve(MODEL, capabilities=Capabilities(constraints=frozenset({"json_schema"})))
    with pytest.raises(UnsupportedParameter, match="'m' on engine 'e' .* lark") as caught:
        compose(request, model=unable)
    assert caught.value.param == param


def test_any_schema_of_a_client_becomes_part_of_a_grammar() -> None:
    odd = Constraint(kind="json_schema", value=json.dumps({"enum": ['}"\n', "é</think>"]}))
    composed = compose(evolve(REQUEST, tools=(TOOL,), constraint=odd), THINKING)
    assert composed is not None
    sampler = Sampler(composed, MODEL, hints=("<think>", "</think>"))
    said = {sampler.sample(random.Random(seed)).rpartition("</think>")[2] for seed in range(30)}
    assert len(said) > 3


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("tool_grammar", "tool_grammar of chat format 'thoughtful' returned str, no Constraint"),
        (
            "answer_syntax",
            "answer_syntax of chat format 'thoughtful' returned str, no AnswerSyntax",
        ),
    ],
)
def test_a_format_that_gives_something_else_is_named_with_its_method(
    method: str, what: str
) -> None:
    wrong = type("Wrong", (Thoughtful,), {method: lambda *_: "start: text"})()
    asked = evolve(REQUEST, tools=(TOOL,), tool_choice=REQUIRED)
    context = FormatContext(model=MODEL, now=datetime(2025, 1, 2))
    with pytest.raises(EngineError, match=what):
        compose_constraint(asked, wrong, context, Prompt())
