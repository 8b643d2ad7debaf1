"""Calls with their arguments between tags are read as they were meant, however they come."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core import (
    CallParser,
    ChatRequest,
    Message,
    ModelInfo,
    RequestError,
    Tool,
    ToolCall,
    ToolChoice,
)
from jarvis_core.structs import Delta
from jarvis_core.template.call_style import CallStyle
from jarvis_core.template.markers import markers_of
from jarvis_core.template.named_styles import TAGGED_STYLES
from jarvis_core.testing.constrained_answers import models_like
from jarvis_core.testing.sampling import Sampler

PARAMETERS = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array"},
        "where": {"type": "object"},
        "sure": {"type": "boolean"},
    },
}
TOOL = Tool(spec={"type": "function", "function": {"name": "save", "parameters": PARAMETERS}})
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), tools=(TOOL,))
FUNCTIONS = markers_of("<tool_call><function=<parameter=").calls
assert FUNCTIONS is not None

texts = st.text(st.sampled_from("ab 3{}[]\"'\\\n<>/=é🎈")) | st.text()
values = {
    "text": texts,
    "count": st.integers(),
    "tags": st.lists(texts, max_size=3),
    "where": st.dictionaries(texts, st.integers() | texts, max_size=3),
    "sure": st.booleans(),
    "other": st.integers() | st.lists(st.integers(), max_size=2),
}
arguments = st.fixed_dictionaries({}, optional=values)


def read(style: CallStyle, chunks: Sequence[str], request: ChatRequest = REQUEST) -> list[Delta]:
    parser = style.parser(request)
    assert isinstance(parser, CallParser)
    return [d for chunk in chunks for d in parser.feed(chunk)] + list(parser.finish())


def calls_of(deltas: Sequence[Delta]) -> list[tuple[str, Any]]:
    made: dict[int, list[str]] = {}
    for delta in deltas:
        for piece in delta.tool_calls:
            made.setdefault(piece.index, [""])[0] += piece.name or ""
            made[piece.index].append(piece.arguments)
    return [(name, json.loads("".join(pieces))) for name, *pieces in made.values()]


def content_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.content for delta in deltas)


@pytest.mark.parametrize("style", TAGGED_STYLES, ids=lambda style: style.needs[-1])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_in_every_chunking(style: CallStyle, data: st.DataObject) -> None:
    given_calls = data.draw(st.lists(arguments, min_size=1, max_size=3))
    written = style.syntax.written(
        [ToolCall(id="", name="save", arguments=json.dumps(a)) for a in given_calls]
    )
    ends = ("</parameter>", "</arg_value>", "</｜DSML｜parameter>", "</arg_value:opensource>")
    ends += ("</steptml:parameter>", "]]></param>", "<|close|>argument<|sep|>")
    if any(end in str(call) for call in given_calls for end in ends):
        return
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=8)))
    chunks = [written[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    for way in ([written], list(written), chunks):
        deltas = read(style, way)
        assert calls_of(deltas) == [("save", call) for call in given_calls]
        assert content_of(deltas).strip() == ""


@pytest.mark.parametrize("style", TAGGED_STYLES, ids=lambda style: style.needs[-1])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_not_a_call_comes_back_to_the_character(
    style: CallStyle, data: st.DataObject
) -> None:
    call = ToolCall(id="", name="save", arguments='{"text": "some words", "count": 3}')
    written = style.syntax.written([call])
    at = data.draw(st.integers(len(style.syntax.marker), len(written) - 2))
    broken = written[:at] + data.draw(st.sampled_from(["", "\0", "<", ">"])) + "\0"
    deltas = read(style, data.draw(st.sampled_from([[broken], list(broken)])))
    if not calls_of(deltas):
        assert content_of(deltas) == broken


def test_a_model_may_leave_out_line_breaks_and_the_outer_tag() -> None:
    for raw in (
        "<tool_call><function=save><parameter=text>a\nb</parameter></function></tool_call>",
        "<tool_call>\n<function=save>\n<parameter=text>\na\nb\n</parameter>\n</function>\n</tool_call>",
        "<function=save>\n<parameter=text>\na\nb\n</parameter>\n</function>\n</tool_call>",
        "<function=save>\n<parameter=text>\na\nb\n</parameter>\n</function>",
    ):
        for chunks in ([raw], list(raw)):
            deltas = read(FUNCTIONS, chunks)
            assert calls_of(deltas) == [("save", {"text": "a\nb"})]
            assert content_of(deltas) == ""


def test_values_keep_the_line_breaks_that_are_theirs() -> None:
    for value in ("", "\n", "\n\n", "a\n", "\na", " "):
        raw = f"<function=save>\n<parameter=text>\n{value}\n</parameter>\n</function>"
        raw = f"<tool_call>\n{raw}\n</tool_call>"
        for chunks in ([raw], list(raw)):
            assert calls_of(read(FUNCTIONS, chunks)) == [("save", {"text": value})]


@pytest.mark.parametrize("style", TAGGED_STYLES, ids=lambda style: style.needs[-1])
def test_a_text_streams_while_a_grammar_makes_the_model_write_it(style: CallStyle) -> None:
    request = evolve(REQUEST, tool_choice=ToolChoice(mode="required"))
    call = ToolCall(id="", name="save", arguments='{"text": "one\\ntwo three", "count": 3}')
    written = style.syntax.written([call])
    deltas = read(style, list(written), request)
    assert calls_of(deltas) == [("save", {"text": "one\ntwo three", "count": 3})]
    pieces = [d.tool_calls[0].arguments for d in deltas]
    assert len(pieces) > 10
    parser = style.parser(request)
    early = [d for d in parser.feed(written[: written.index("three")]) if d.tool_calls]
    assert "".join(d.tool_calls[0].arguments for d in early) == '{"text": "one\\ntwo '


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_text_between_quotes_may_hold_the_end_of_one(size: int) -> None:
    style = markers_of('<function name=" </function> <param name="').calls
    forced = evolve(REQUEST, tool_choice=ToolChoice(mode="required"))
    for text in ("<b>&\n", "a]]>b\n", "<param></function>", "", "<![CDATA[", "]]>", "<", "<!"):
        call = ToolCall(id="", name="save", arguments=json.dumps({"text": text, "count": 3}))
        written = style.syntax.written([call])
        assert ("<![CDATA[" in written) is bool(set(text) & set("<&\n"))
        chunks = [written[i : i + size] for i in range(0, len(written), size)]
        for request in (REQUEST, forced):
            assert calls_of(read(style, chunks, request)) == [("save", {"text": text, "count": 3})]
    written = style.syntax.written(
        [ToolCall(id="", name="save", arguments='{"text": "\\n</param></function>"}')]
    )
    assert "<![CDATA[\n</param></function>]]></param>" in written
    chunks = [written[i : i + size] for i in range(0, len(written), size)]
    assert calls_of(read(style, chunks)) == [("save", {"text": "\n</param></function>"})]
    for raw in (written.replace("]]>", ""), written[: written.index("]]>")]):
        assert content_of(read(style, [raw])) == raw


def test_the_time_that_a_call_takes_is_linear() -> None:
    def seconds(length: int, pieces: int) -> float:
        body = "<parameter=text>\n" + "x" * length + "\n</parameter>\n"
        raw = "<tool_call>\n<function=save>\n" + body * pieces + "</function>\n</tool_call>"
        best = 9.0
        for _ in range(3):
            begun = time.thread_time()
            assert len(read(FUNCTIONS, [raw])) == 1
            best = min(best, time.thread_time() - begun)
        return best

    assert seconds(40, 4000) < 40 * seconds(40, 400) + 0.01


def test_a_line_break_that_a_model_forgets_does_not_make_its_tags_text() -> None:
    style = markers_of("<tool_call></arg_key>\n<arg_value>").calls
    assert style is not None
    request = evolve(REQUEST, tool_choice=ToolChoice(mode="required"))
    sampler = Sampler(style.syntax.forced(request, MODEL), MODEL)
    forgotten = "<tool_call>save\n<arg_key>text</arg_key>\n<arg_value>a</arg_value>"
    assert not sampler.accepts(f"{forgotten}</arg_value>\n</tool_call>")
    assert sampler.accepts(f"{forgotten}\n</tool_call>")


MODEL = ModelInfo(name="m", source="m", engine="e", context_length=9)


def strict(**schema: Any) -> ChatRequest:
    """A request that forces a call with an argument of a schema."""
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    function = {"name": "f", "parameters": parameters, "strict": True}
    tools = (Tool(spec={"type": "function", "function": function}),)
    return evolve(REQUEST, tools=tools, tool_choice=ToolChoice(mode="required"))


@pytest.mark.parametrize("style", TAGGED_STYLES, ids=lambda style: style.needs[-1])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "enum": ["a", ""]},
        {"type": "string", "maxLength": 3},
        {"type": "string", "minLength": 2, "maxLength": 4},
        {"type": "string", "pattern": "^[a-z]{2}-\\d+$"},
        {"type": "string", "pattern": "[<\\n]", "maxLength": 30},
        {"type": ["string", "null"], "maxLength": 2},
    ],
    ids=str,
)
def test_what_a_strict_schema_says_of_a_text_is_held(
    style: CallStyle, schema: dict[str, Any]
) -> None:
    request = strict(**schema)
    ends = ["</parameter>\n", "</arg_value>", "\n</parameter>", "</arg_value:opensource>"]
    for model in models_like(
        MODEL, style.syntax.written([ToolCall(id="", name="f", arguments='{"a": "b"}')])
    ):
        sampler = Sampler(
            style.syntax.forced(evolve(request, parallel_tool_calls=False), model),
            model,
            hints=ends,
        )
        for seed in range(8):
            raw = sampler.sample(random.Random(seed))
            (call,) = calls_of(read(style, list(raw), request))
            jsonschema.validate(call[1]["a"], schema)


@pytest.mark.parametrize("style", TAGGED_STYLES, ids=lambda style: style.needs[-1])
def test_a_strict_tool_is_refused_where_its_schema_cannot_be_held(style: CallStyle) -> None:
    for schema in (
        {"type": "string", "pattern": "^(?!a)"},
        {"type": "string", "format": "date"},
        {"type": "string", "maxLength": 100_000},
        {"type": "string", "not": {"const": "a"}},
    ):
        with pytest.raises(RequestError, match="'f' cannot be held"):
            style.syntax.forced(strict(**schema), MODEL)
