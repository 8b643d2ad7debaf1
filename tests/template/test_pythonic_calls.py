"""Calls written as in Python are read as Python reads them, and JSON's way of writing too."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core import ChatRequest, Message, ModelInfo, RequestError, Tool, ToolCall, ToolChoice
from jarvis_core.structs import Delta
from jarvis_core.template.markers import markers_of

TOOL = Tool(spec={"type": "function", "function": {"name": "save"}})
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), tools=(TOOL,))
STYLE = markers_of("<|tool_call_start|>").calls
assert STYLE is not None

texts = st.text(st.sampled_from("ab \"'\\\n,()[]{}=é🎈")) | st.text()
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.from_regex("[a-z_][a-z0-9_]{0,5}", fullmatch=True), values)


def read(chunks: Sequence[str], request: ChatRequest = REQUEST) -> list[Delta]:
    assert STYLE is not None
    parser = STYLE.parser(request)
    return [d for chunk in chunks for d in parser.feed(chunk)] + list(parser.finish())


def calls_of(deltas: Sequence[Delta]) -> list[tuple[str, Any]]:
    made: dict[int, list[str]] = {}
    for delta in deltas:
        for piece in delta.tool_calls:
            made.setdefault(piece.index, [""])[0] += piece.name or ""
            made[piece.index].append(piece.arguments)
    return [(name, json.loads("".join(pieces))) for name, *pieces in made.values()]


def call(body: str) -> str:
    return f"<|tool_call_start|>[{body}]<|tool_call_end|>"


@given(calls=st.lists(arguments, min_size=1, max_size=3), in_json=st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_python_and_json_write_is_read(calls: list[dict[str, Any]], in_json: bool) -> None:
    write = json.dumps if in_json else repr
    bodies = [f"save({', '.join(f'{k}={write(v)}' for k, v in c.items())})" for c in calls]
    raw = call(", ".join(bodies))
    for chunks in ([raw], list(raw)):
        deltas = read(chunks)
        assert calls_of(deltas) == [("save", c) for c in calls]
        assert not any(delta.content for delta in deltas)


@given(calls=st.lists(arguments, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_calls_in_lines_of_their_own_are_read(calls: list[dict[str, Any]]) -> None:
    style = markers_of("<function_calls></function_calls>").calls
    assert style is not None
    lines = [f"save({', '.join(f'{k}={v!r}' for k, v in c.items())})" for c in calls]
    raw = "\n".join(["<function_calls>", *lines, "</function_calls>"])
    for chunks in ([raw], list(raw)):
        parser = style.parser(REQUEST)
        deltas = [d for chunk in chunks for d in parser.feed(chunk)] + list(parser.finish())
        assert calls_of(deltas) == [("save", c) for c in calls]
        assert not any(delta.content for delta in deltas)


@given(calls=st.lists(arguments, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_past_calls_are_written_as_they_are_read(calls: list[dict[str, Any]]) -> None:
    assert STYLE is not None
    told = [ToolCall(id="", name="save", arguments=json.dumps(c)) for c in calls]
    assert calls_of(read([STYLE.syntax.written(told)])) == [("save", c) for c in calls]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("save(a='x\ny')", "x\ny"),
        (r"save(a='it\'s \x41\u00e9\U0001F388 \d \/')", "it's Aé🎈 \\d /"),
        (r'save(a="\ud83c\udf88")', "🎈"),
        ("save( a = ( 1 , 'b', ) , )", [1, "b"]),
        ("save(a={'k': None, \"l\": true})", {"k": None, "l": True}),
    ],
)
def test_values_are_read_as_they_are_written(body: str, value: Any) -> None:
    for chunks in ([call(body)], list(call(body))):
        assert calls_of(read(chunks)) == [("save", {"a": value})]


@pytest.mark.parametrize(
    "body",
    [
        "save(1)",
        "save(a=b)",
        "save(a=)",
        "save a=1",
        "save(a='it's')",
        r'save(a="\ud800")',
        r'save(a="\uZZZZ")',
        "save(a={1: 2})",
        "save(a=01)",
        "save(a=" + "[" * 200 + "]" * 200 + ")",
        "",
    ],
)
def test_what_is_no_such_call_is_text(body: str) -> None:
    for chunks in ([call(body)], list(call(body))):
        deltas = read(chunks)
        assert not calls_of(deltas)
        assert "".join(delta.content for delta in deltas) == call(body)


def test_a_text_streams_while_a_grammar_makes_the_model_write_it() -> None:
    request = evolve(REQUEST, tool_choice=ToolChoice(mode="required"))
    raw = call('save(text="one two"), save()')
    deltas = read(list(raw), request)
    assert calls_of(deltas) == [("save", {"text": "one two"}), ("save", {})]
    assert len(deltas) > 10


def test_the_time_that_a_call_takes_is_linear() -> None:
    def seconds(length: int) -> float:
        raw = call(f"save(a={['x' * 10] * length!r})")
        best = 9.0
        for _ in range(3):
            begun = time.thread_time()
            assert len(read([raw])) == 1
            best = min(best, time.thread_time() - begun)
        return best

    assert seconds(20_000) < 40 * seconds(2_000) + 0.01


def test_a_name_that_has_no_place_before_an_equals_sign_is_refused() -> None:
    assert STYLE is not None
    model = ModelInfo(name="m", source="m", engine="e", context_length=9)
    parameters = {"type": "object", "properties": {"a b": {"type": "string"}}}
    function = {"name": "f", "parameters": parameters}
    request = evolve(REQUEST, tools=(Tool(spec={"type": "function", "function": function}),))
    with pytest.raises(RequestError, match="'a b'"):
        STYLE.syntax.forced(request, model)
