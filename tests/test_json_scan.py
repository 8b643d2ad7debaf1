"""The end of a JSON value is found however the text is cut, and nothing but JSON passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core.json_scan import JsonScanner, is_object, json_items, json_members

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), values, max_size=4)
containers = st.lists(values, max_size=4) | objects


def scan(chunks: list[str], **options: Any) -> tuple[str, int]:
    """How it ended, and how many characters were read."""
    scanner, read = JsonScanner(**options), 0
    for chunk in chunks:
        at = scanner.feed(chunk, 0)
        read += at
        if at < len(chunk) or scanner.done:
            break
    return ("done" if scanner.done else "broken" if scanner.broken else "open"), read


@given(value=containers, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_value_is_read_to_its_end_and_no_further(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert scan([text + ' {"more": 1}']) == ("done", len(text))
    assert scan(list(text + "]")) == ("done", len(text))
    assert scan([text[:-1]]) == ("open", len(text) - 1)


@given(
    text=st.text(st.sampled_from('{}[]":,\\ntrue01.-eE+ u"\n'), max_size=30),
    opening=st.sampled_from("{["),
)
@settings(max_examples=500, deadline=None)
def test_what_is_done_decodes_and_what_decodes_is_done(text: str, opening: str) -> None:
    text = opening + text
    state, read = scan(list(text))
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        assert state != "done"
    else:
        assert (state, read) == ("done", end)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "{x",
        "{1",
        '{"a" 1',
        '{"a":,',
        '{"a":1,}',
        "[1,]",
        "[1 2",
        "[01,",
        "[1.,",
        "[-,",
        "[+1",
        "[tru,",
        "[truex",
        "[nul]",
        "[NaN",
        "[Infinity",
        '["\n"',
        '["\\x"',
        '["\\u12g4"',
        "{]",
        "[}",
        "{,",
        "[:",
    ],
)
def test_what_is_no_json_breaks_at_once(text: str) -> None:
    assert scan(list(text))[0] == "broken"


def test_only_the_wanted_bracket_opens() -> None:
    assert scan(["[1]"], opening="{") == ("broken", 0)
    assert scan(['"text"']) == ("broken", 0)
    assert scan(["[[1], {}]"], opening="[") == ("done", 9)


def test_an_unknown_key_breaks_an_outermost_object_only() -> None:
    keys = frozenset({"name", "a\nb"})
    assert scan(['{"name": {"other": 1}, "a\\nb": 2}'], keys=keys)[0] == "done"
    assert scan(['{"other"'], keys=keys)[0] == "broken"
    assert scan(['[{"other": 1}]'], keys=keys)[0] == "done"


@given(value=objects)
@settings(max_examples=60, deadline=None)
def test_members_are_as_they_were_written(value: dict[str, Any]) -> None:
    members = json_members(" " + json.dumps(value, indent=1))
    assert {key: json.loads(text) for key, text in members.items()} == value
    assert json_members('{"x" : 1.10 , "y":[ 1 ]}') == {"x": "1.10", "y": "[ 1 ]"}


def test_items_are_as_they_were_written() -> None:
    assert json_items('[ 1e2, {"x": 1} ,"a"]') == ["1e2", '{"x": 1}', '"a"']
    assert json_items("[]") == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a"', '{"a":1', '{"a":1,"a":2}', "{" * 9])
def test_what_is_no_object_has_no_members(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json_members(text)


def test_a_value_nested_too_deep_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="cannot be read|can be read"):
        json_items("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize("text", ["{}", ' {"a": {"b": [1]}}\n', '{"a":' * 5000 + "1" + "}" * 5000])
def test_an_object_is_one_to_its_end(text: str) -> None:
    assert is_object(text)


@pytest.mark.parametrize("text", ["", "{", '{"a": "b', '{"a": 1}}', "{} {}", "[]", "null"])
def test_a_part_of_an_object_is_none(text: str) -> None:
    assert not is_object(text)
