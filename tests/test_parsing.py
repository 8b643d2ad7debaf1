"""Markers are found in text cut anyhow; calls are read strictly; no text is lost on the way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core import (
    Call,
    CallParser,
    ChatRequest,
    Cursor,
    Delta,
    MarkerSearch,
    Mismatch,
    Scan,
    TextParser,
    Tool,
    ToolCallDelta,
    ToolChoice,
    literal,
    may_call_tools,
    read_call,
    read_calls,
    run_of,
)

PING = Tool(spec={"type": "function", "function": {"name": "ping"}})


# -- calls -------------------------------------------------------------------------------------


def test_a_call_keeps_the_text_of_its_arguments() -> None:
    text = '{"name": "f", "arguments": { "x": 1.10, "x": 2 }}'
    assert read_call(text) == Call(name="f", arguments='{ "x": 1.10, "x": 2 }')


def test_arguments_inside_a_string_are_unwrapped() -> None:
    assert read_call('{"arguments": "{\\"x\\": 1}", "name": "f"}').arguments == '{"x": 1}'


def test_an_identifier_and_a_type_may_be_there() -> None:
    text = '{"type": "function", "id": "abc", "name": "f", "parameters": {}}'
    call = read_call(text, arguments=("parameters", "arguments"))
    assert call == Call(name="f", arguments="{}", id="abc")
    assert read_call('{"id": null, "name": "f", "arguments": {}}').id is None
    assert read_call('{"id": "", "name": "f", "arguments": {}}').id is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"name": "f"}',
        '{"arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "\\ud800", "arguments": {}}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": "f", "arguments": "{} x"}',
        '{"name": "f", "arguments": {}, "note": 1}',
        '{"name": "f", "arguments": {}, "id": 7}',
        '{"name": "f", "arguments": {}, "type": "object"}',
        '{"name": "f", "arguments": {}, "name": "g"}',
    ],
)
def test_what_a_call_would_lose_makes_it_no_call(text: str) -> None:
    with pytest.raises(Mismatch):
        read_call(text)


def test_calls_in_an_array_are_all_right_or_none_is() -> None:
    one = '{"name": "f", "arguments": {}}'
    assert read_calls(f"[{one}, {one}]") == [Call(name="f", arguments="{}")] * 2
    for text in ("[]", "{}", f"[{one}, 1]", f"[{one}"):
        with pytest.raises(Mismatch):
            read_calls(text)


def test_calls_need_tools_that_may_be_called() -> None:
    chat = ChatRequest(model="m", messages=())
    assert not may_call_tools(chat)
    assert may_call_tools(ChatRequest(model="m", messages=(), tools=(PING,)))
    none = ToolChoice(mode="none")
    assert not may_call_tools(ChatRequest(model="m", messages=(), tools=(PING,), tool_choice=none))


# -- markers -----------------------------------------------------------------------------------


def test_only_what_may_begin_a_marker_is_held_back() -> None:
    search = MarkerSearch(["<call>", "[X]"])
    assert search.feed("a < b <ca") == ("a < b ", None, "")
    assert search.holding
    assert search.feed("t [") == ("<cat ", None, "")
    assert search.feed("X] rest") == ("", "[X]", " rest")
    assert not search.holding
    assert search.feed("<") == ("", None, "")
    assert search.finish() == "<"
    assert search.finish() == ""


def test_the_first_of_several_markers_is_found() -> None:
    assert MarkerSearch(["<b>", "<a>"]).feed("1<a>2<b>") == ("1", "<a>", "2<b>")


def test_a_marker_inside_of_another_is_refused() -> None:
    with pytest.raises(ValueError, match="part of another"):
        MarkerSearch(["<call>", "<call>x"])


@given(
    text=st.text(st.sampled_from("<a>b"), max_size=20), cut=st.integers(0, 20), other=st.booleans()
)
@settings(max_examples=300, deadline=None)
def test_a_search_finds_the_same_wherever_the_text_is_cut(text: str, cut: int, other: bool) -> None:
    markers = ["<ab>", "<<b"] if other else ["<a><b>"]
    before, marker, after = MarkerSearch(markers).feed(text)
    search = MarkerSearch(markers)
    first, found, rest = search.feed(text[:cut])
    if found is None:
        second, found, rest = search.feed(text[cut:])
        first += second
    else:
        rest += text[cut:]
    assert (first, found, rest) == (before, marker, after)


# -- parsers -----------------------------------------------------------------------------------


def _scan(cursor: Cursor, marker: str) -> Scan[list[Call]]:
    name = yield from run_of(cursor, re.compile("[a-z]*"))
    yield from literal(cursor, ";")
    if not name:
        raise Mismatch
    return [Call(name=name, arguments="{}")]


def parser() -> CallParser:
    return CallParser(_scan, markers=["@@"], bare="%", glue=" ,")


def deltas(*chunks: str) -> list[Delta]:
    parse = parser()
    return [d for chunk in chunks for d in parse.feed(chunk)] + list(parse.finish())


def call(index: int, name: str) -> Delta:
    return Delta(tool_calls=(ToolCallDelta(index=index, name=name, arguments="{}"),))


def test_text_and_calls_come_in_their_order() -> None:
    assert deltas("see @@f;@@g; and") == [
        Delta(content="see "),
        call(0, "f"),
        call(1, "g"),
        Delta(content=" and"),
    ]


def test_glue_between_calls_is_dropped_and_kept_before_text() -> None:
    assert deltas(" @@f; , @@g; ") == [call(0, "f"), call(1, "g")]
    assert deltas(" @@f; , x") == [call(0, "f"), Delta(content=" , x")]
    assert deltas("@@f; ,") == [call(0, "f"), Delta(content=" ,")]
    assert deltas(" ", " x") == [Delta(content="  x")]
    assert deltas(" ", " ") == [Delta(content="  ")]


def test_what_is_no_call_is_text_and_what_follows_is_looked_at_again() -> None:
    assert deltas(" @@f.@@g;") == [Delta(content=" @@"), Delta(content="f."), call(0, "g")]
    assert deltas("@@@@g;") == [Delta(content="@@"), call(0, "g")]
    assert deltas("x@@f") == [Delta(content="x"), Delta(content="@@f")]
    assert deltas("@", "@f", "g") == [Delta(content="@@fg")]
    assert deltas("x@") == [Delta(content="x"), Delta(content="@")]


def test_a_bare_call_counts_at_the_beginning_and_after_a_call_only() -> None:
    def scan(cursor: Cursor, marker: str) -> Scan[list[Call]]:
        yield from literal(cursor, "%f;" if marker == "" else "f;")
        return [Call(name="f", arguments="{}")]

    def run(text: str) -> list[Delta]:
        parse = CallParser(scan, markers=["@@"], bare="%")
        return [*parse.feed(text), *parse.finish()]

    assert run(" %f; %f;") == [call(0, "f"), call(1, "f")]
    assert run("@@f;%f;") == [call(0, "f"), call(1, "f")]
    assert run("x %f;") == [Delta(content="x %f;")]
    assert run(" %g %f;") == [Delta(content=" %"), Delta(content="g %f;")]


def test_a_call_that_breaks_off_after_it_was_begun_counts_and_the_next_has_its_own_number() -> None:
    def scan(cursor: Cursor, marker: str) -> Scan[list[Call]]:
        name = yield from run_of(cursor, re.compile("[a-z]*"))
        yield ToolCallDelta(index=0, name=name)
        yield from literal(cursor, ";")
        return []

    parse = CallParser(scan, markers=["@@"])
    found = [*parse.feed("@@f! @@g;@@h?"), *parse.finish()]
    assert [d.tool_calls[0] for d in found if d.tool_calls] == [
        ToolCallDelta(index=index, name=name) for index, name in enumerate("fgh")
    ]
    assert "".join(d.content for d in found) == "! ?"


def test_an_empty_piece_changes_nothing() -> None:
    assert deltas("", "@@", "", "f;", "") == [call(0, "f")]


def test_the_text_parser_calls_nothing() -> None:
    parse = TextParser()
    assert list(parse.feed("@@f;")) == [Delta(content="@@f;")]
    assert list(parse.feed("")) == []
    assert list(parse.finish()) == []


def test_an_ending_means_nothing_behind_a_call_only() -> None:
    def scan(cursor: Cursor, marker: str) -> Scan[list[Call]]:
        yield from literal(cursor, "f;")
        return [Call(name="f", arguments="{}")]

    def run(*chunks: str) -> list[Delta]:
        parse = CallParser(scan, markers=["@@"], ending="$$")
        return [delta for text in chunks for delta in parse.feed(text)] + [*parse.finish()]

    assert run("@@f; @@f; $$ ") == [call(0, "f"), call(1, "f")]
    assert run("@@f;", "$", "$", "x") == [call(0, "f"), Delta(content="x")]
    assert run("$$", "@@f;") == [Delta(content="$$"), call(0, "f")]
    assert run("x$$", "y") == [Delta(content="x"), Delta(content="$$"), Delta(content="y")]
    assert run("@@f;x$$")[1:] == [Delta(content="x"), Delta(content="$$")]
    assert run("@@f;$") == [call(0, "f"), Delta(content="$")]


def test_the_keys_of_a_call_may_have_other_names() -> None:
    text = '{"no": "1", "tool": "f", "with": {}}'
    keys = {"name": "tool", "arguments": ("with",)}
    assert read_call(text, **keys, ignored=("no",)) == Call(name="f", arguments="{}")
    assert read_calls(f"[{text}]", **keys, ignored=("no",)) == [Call(name="f", arguments="{}")]
    with pytest.raises(Mismatch):
        read_call(text, **keys)
    with pytest.raises(Mismatch):
        read_call(text, ignored=("no", "tool", "with"))
