"""Grammars of tool calls, sampled and read back."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core import (
    CallArguments,
    CallName,
    CallParser,
    CallPattern,
    CallSyntax,
    ChatRequest,
    Constraint,
    Grammar,
    ModelInfo,
    Tool,
    ToolChoice,
    calls_are_constrained,
)
from jarvis_core.structs import Delta, ToolCallDelta
from jarvis_core.testing.sampling import Sampler

MODEL = ModelInfo(name="m", source="m", engine="e", context_length=1)
TAGS = CallSyntax(
    call=('<call>{"name": "', CallName(), '", "arguments": ', CallArguments(), "}</call>"),
    between="\n",
    marker="<call>",
)
LIST = CallSyntax(
    before="[CALLS][",
    call=("{id ", CallPattern("[a-z]{3}"), " ", CallName(), " ", CallArguments(key=":"), "}"),
    between=", ",
    after="]",
    marker="[CALLS]",
)
BARE = CallSyntax(call=("{", CallName(), "|", CallArguments(), "}"))


def tool(name: str, **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return Tool(spec={"type": "function", "function": {"name": name, "parameters": schema}})


TOOLS = (tool("f"), tool("ff", x={"type": "string"}))
REQUEST = ChatRequest(model="m", messages=(), tools=TOOLS, tool_choice=ToolChoice(mode="required"))


def parser(syntax: CallSyntax) -> CallParser:
    if syntax.marker:
        return CallParser(syntax.scan, markers=[syntax.marker])
    return CallParser(syntax.scan, markers=[], bare="{")


def read(syntax: CallSyntax, raw: str, size: int) -> list[Delta]:
    reading = parser(syntax)
    deltas = [d for i in range(0, len(raw), size) for d in reading.feed(raw[i : i + size])]
    return [*deltas, *reading.finish()]


def calls(deltas: list[Delta]) -> list[tuple[str, str]]:
    found: dict[int, list[str]] = {}
    for delta in deltas:
        for piece in delta.tool_calls:
            name_and_arguments = found.setdefault(piece.index, [piece.name or "", ""])
            name_and_arguments[1] += piece.arguments
    return [(name, arguments) for name, arguments in found.values()]


def content(deltas: list[Delta]) -> str:
    return "".join(delta.content for delta in deltas)


@pytest.mark.parametrize("syntax", [TAGS, LIST, BARE])
def test_calls_are_read_as_the_grammar_made_them_however_they_are_cut(syntax: CallSyntax) -> None:
    sampler = Sampler(syntax.forced(REQUEST, MODEL), MODEL)
    counts = set()
    for seed in range(40):
        raw = sampler.sample(random.Random(seed))
        whole = calls(read(syntax, raw, len(raw)))
        counts.add(len(whole))
        assert {name for name, _ in whole} <= {"f", "ff"}
        assert all(isinstance(json.loads(arguments), dict) for _, arguments in whole)
        assert content(read(syntax, raw, 1)) == ""
        assert all(calls(read(syntax, raw, size)) == whole for size in (1, 2, 5))
    assert counts == {1} if syntax is BARE else max(counts) > 1


@pytest.mark.parametrize("syntax", [TAGS, LIST, BARE])
def test_one_call_only_where_no_more_are_wanted(syntax: CallSyntax) -> None:
    for request in (
        evolve(REQUEST, parallel_tool_calls=False),
        evolve(REQUEST, tool_choice=ToolChoice(mode="named", name="ff")),
    ):
        sampler = Sampler(syntax.forced(request, MODEL), MODEL)
        for seed in range(20):
            raw = sampler.sample(random.Random(seed))
            assert len(calls(read(syntax, raw, 3))) == 1


def test_arguments_are_given_while_they_come() -> None:
    reading = parser(TAGS)
    assert list(reading.feed('<call>{"name": "f", "arg')) == [
        Delta(tool_calls=(ToolCallDelta(index=0, name="f"),))
    ]
    assert list(reading.feed('uments": {"a')) == [
        Delta(tool_calls=(ToolCallDelta(index=0, arguments='{"a'),))
    ]
    assert list(reading.feed('": 1}')) == [
        Delta(tool_calls=(ToolCallDelta(index=0, arguments='": 1}'),))
    ]
    assert list(reading.feed("}</call> and ")) == [Delta(content=" and ")]


def test_a_call_that_is_cut_keeps_what_was_given_and_adds_no_text() -> None:
    raw = '<call>{"name": "f", "arguments": {"a": 1'
    deltas = read(TAGS, raw, 4)
    assert calls(deltas) == [("f", '{"a": 1')]
    assert content(deltas) == ""


@given(st.text('<cal>/f"name{}:, argumets1|', max_size=60), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_what_no_grammar_made_is_not_lost_before_a_call_begins(text: str, size: int) -> None:
    deltas = read(TAGS, "x" + text, size)
    if not calls(deltas):
        assert content(deltas) == "x" + text


def test_identifiers_are_made_where_a_format_makes_them() -> None:
    raw = '<call>{"name": "f", "arguments": {}}</call>' * 2
    reading = CallParser(
        TAGS.scan, markers=["<call>"], make_id=lambda index, name: f"{name}{index}"
    )
    deltas = [*reading.feed(raw), *reading.finish()]
    assert [p.id for d in deltas for p in d.tool_calls if p.name] == ["f0", "f1"]


def test_control_tokens_of_the_model_are_tokens_in_the_grammar() -> None:
    known = evolve(MODEL, control_tokens=("<call>", "[CALLS]"), control_token_ids=(7, 8))
    named = evolve(MODEL, control_tokens=("<call>", "[CALLS]"))
    assert Grammar(known).text("a<call>b[CALLS]") == '"a" <[7]> "b" <[8]>'
    assert Grammar(named).text("a<call>b[CALLS]") == '"a" <call> "b[CALLS]"'
    assert Grammar(MODEL).text('a<call>"\n') == r'"a<call>\"\n"'


@pytest.mark.parametrize("pattern", ["a/b", r"a\/b", "a\nb", r"\\", "[/]"])
def test_a_regex_is_written_as_lark_wants_it(pattern: str) -> None:
    grammar = Grammar(MODEL)
    built = grammar.build(grammar.regex(pattern))
    wanted = {"a/b": "a/b", r"a\/b": "a/b", "a\nb": "a\nb", r"\\": "\\", "[/]": "/"}[pattern]
    assert Sampler(built, MODEL).sample(random.Random(1)) == wanted


@pytest.mark.parametrize(
    "part",
    [
        Constraint(kind="lark", value='start: "a" start?'),
        Constraint(kind="regex", value="a+"),
        Constraint(kind="choice", value='["a", "aa"]'),
        Constraint(kind="json_schema", value='{"const": "a"}'),
    ],
)
def test_a_constraint_of_each_kind_can_be_a_part(part: Constraint) -> None:
    grammar = Grammar(MODEL)
    built = grammar.build(f'"(" {grammar.part(part)} ")"')
    for seed in range(5):
        text = Sampler(built, MODEL).sample(random.Random(seed))
        assert text.strip('("a)') == ""
        assert text[0] + text[-1] == "()"


@pytest.mark.parametrize(
    ("syntax", "fine", "wrong"),
    [
        (TAGS, ["", "text < </call>", 'A <call>{"name": "f", "arguments": {}}</call>'],
         ["<call>", '<call>{"name": "g"', '<call>{"name": "f", "arguments": {}}</call> more']),
        (BARE, ["", "  text {", "{f|{}}"], ["{", "  {f|{}}", "; {", "{f|{}} more"]),
    ],
)  # fmt: skip
def test_text_or_calls(syntax: CallSyntax, fine: list[str], wrong: list[str]) -> None:
    sampler = Sampler(syntax.optional(REQUEST, MODEL), MODEL)
    assert [text for text in fine if not sampler.accepts(text)] == []
    assert [text for text in wrong if sampler.accepts(text)] == []


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        ("a", CallName()),
        (CallName(), "a", CallArguments()),
        ("a", CallArguments(), "b", CallName()),
        ("a", CallName(), CallArguments()),
        ("a", CallName(), "b", CallArguments(), "c", CallName()),
    ],
)
def test_pieces_that_cannot_be_read_back_are_refused(pieces: Any) -> None:
    with pytest.raises(ValueError):
        CallSyntax(call=pieces)


def test_a_marker_begins_the_call() -> None:
    with pytest.raises(ValueError, match="marker"):
        evolve(TAGS, marker="<other>")


def test_whose_calls_are_constrained() -> None:
    free = evolve(REQUEST, tool_choice=ToolChoice())
    strict = Tool(spec={"type": "function", "function": {"name": "s", "strict": True}})
    assert not calls_are_constrained(free)
    assert calls_are_constrained(REQUEST)
    assert calls_are_constrained(evolve(free, parallel_tool_calls=False))
    assert calls_are_constrained(evolve(free, tools=(*TOOLS, strict)))
    assert calls_are_constrained(evolve(free, constraint=Constraint(kind="regex", value="a")))
    assert not calls_are_constrained(evolve(free, tools=(), parallel_tool_calls=False))
    assert not calls_are_constrained(evolve(free, tool_choice=ToolChoice(mode="none")))


@pytest.mark.parametrize("tokens", [(), ("</p>",)])
def test_any_text_may_come_up_to_one_with_line_breaks(tokens: tuple[str, ...]) -> None:
    model = evolve(MODEL, control_tokens=tokens, control_token_ids=tuple(range(len(tokens))))
    grammar = Grammar(model)
    constraint = grammar.build(f"{grammar.text('<p>')} {grammar.until(chr(10) + '</p>' + chr(10))}")
    sampler = Sampler(constraint, model, hints=["\n</p>\n"])
    assert sampler.accepts("<p>a\n b\n</p>\n")
    assert sampler.accepts("<p>\n</p>\n")
    assert not sampler.accepts("<p>a</p>\n")
    assert not sampler.accepts("<p>a\n</p>\nb")
    for seed in range(20):
        raw = sampler.sample(random.Random(seed))
        assert raw.index("\n</p>\n") == len(raw) - len("\n</p>\n")
