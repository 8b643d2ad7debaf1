"""What a model wrote as bare text gets the type that its tool's schema names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarvis_core import Tool
from jarvis_core.template.argument_types import (
    ANY,
    TEXT,
    argument_json,
    argument_schema,
    enforced_schema,
    is_plain,
    types_of,
)


def tool(parameters: dict[str, Any]) -> Tool:
    return Tool(spec={"type": "function", "function": {"name": "f", "parameters": parameters}})


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"enum": ["a", "b"]}, {"string"}),
        ({"const": None}, {"null"}),
        ({"enum": [1, True]}, {"integer", "number", "boolean"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "string", "nullable": True}, {"string", "null"}),
        ({"anyOf": [{"type": "string"}, {"anyOf": [{"type": "array"}]}]}, {"string", "array"}),
        ({"properties": {}}, {"object"}),
        ({}, ANY),
        ({"anyOf": [{"$ref": "#/nowhere"}]}, ANY),
        ({"type": 5}, ANY),
    ],
)
def test_a_schema_tells_the_types_of_a_value(schema: dict[str, Any], types: set[str]) -> None:
    assert types_of(schema) == types


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "string"}, "3"),
        ("3", {"type": "integer"}, 3),
        ("3", {}, 3),
        ("3.0", {"type": "integer"}, 3.0),
        ("3", {"type": "number"}, 3),
        (" true\n", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, True),
        ("True", {}, "True"),
        ("None", {"type": ["integer", "null"]}, None),
        ("null", {"type": ["string", "null"]}, None),
        ("3", {"type": ["string", "null"]}, "3"),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ('{"a": [1]}', {"type": "array"}, '{"a": [1]}'),
        ("{'a': 1}", {"type": "object"}, "{'a': 1}"),
        ("NaN", {"type": "number"}, "NaN"),
        ("[" * 100_000, {}, "[" * 100_000),
        ("", {"type": "integer"}, ""),
    ],
)
def test_a_text_is_json_where_its_schema_says_so(
    text: str, schema: dict[str, Any], value: Any
) -> None:
    read = json.loads(argument_json(text, types_of(schema)))
    assert (read, type(read)) == (value, type(value))


def test_a_long_number_keeps_its_digits() -> None:
    assert argument_json("1" * 5000, types_of({"type": "integer"})) == "1" * 5000
    assert argument_json("1.50", ANY) == "1.50"


@given(st.text())
@example("\f0")
@example("0\xa0")
def test_no_text_is_lost(text: str) -> None:
    assert json.loads(argument_json(text, TEXT)) == text
    read = json.loads(argument_json(text, ANY))
    assert read == text or json.loads(text) == read


def test_an_argument_has_the_definitions_that_it_refers_to() -> None:
    town = {"type": "object", "properties": {"name": {"$ref": "#/$defs/name"}}}
    parameters = {
        "properties": {"town": {"$ref": "#/$defs/town"}, "days": {"type": "integer"}},
        "$defs": {"town": town, "name": {"type": "string"}},
    }
    assert argument_schema(tool(parameters), "town") == {**town, "$defs": parameters["$defs"]}
    assert enforced_schema(tool(parameters), "days") == {"type": "integer"}
    assert enforced_schema(tool(parameters), "town")["$defs"].keys() == parameters["$defs"].keys()
    assert argument_schema(tool(parameters), "other") == {}
    assert argument_schema(None, "town") == {}
    other = {"additionalProperties": {"type": "string"}}
    assert types_of(argument_schema(tool(other), "any")) == TEXT
    endless = {"properties": {"a": {"$ref": "#/properties/a"}}}
    assert types_of(argument_schema(tool(endless), "a")) == ANY


def test_a_schema_of_types_alone_is_plain() -> None:
    assert is_plain({"type": "string", "description": "A town"})
    assert is_plain({"anyOf": [{"type": "string"}, {"type": "null"}]})
    assert is_plain({"properties": {}}, "properties")
    assert not is_plain({"properties": {}})
    assert not is_plain({"type": "string", "pattern": "a"})
    assert not is_plain({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]})
