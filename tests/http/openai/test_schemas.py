"""Schemas of tools and answers: faults are refused by path, and what is not enforced if strict."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.openai.request import chat_request, read_call
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import ChatRequest


def answer_format(schema: Any, **fields: Any) -> dict[str, Any]:
    named = {"name": "n", "schema": schema, **fields}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def tools(parameters: Any, **fields: Any) -> dict[str, Any]:
    function = {"name": "f", "parameters": parameters, **fields}
    return {"tools": [{"type": "function", "function": function}]}


@pytest.fixture
def build(kit: Any) -> Any:
    def build(**parameters: Any) -> ChatRequest:
        raw = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **parameters}
        return chat_request(read_call(raw, ServerSettings()), kit.make_model().info)

    return build


FAULTS = [
    ({"type": "strin"}, "type"),
    ({"properties": {"a": {"type": ["string", 5]}}}, "properties.a.type"),
    ({"properties": []}, "properties"),
    ({"properties": {"a": 5}}, "properties.a"),
    ({"anyOf": [{}, {"required": "a"}]}, "anyOf[1].required"),
    ({"anyOf": []}, "anyOf"),
    ({"enum": []}, "enum"),
    ({"items": {"pattern": 5}}, "items.pattern"),
    ({"additionalProperties": {"minimum": "1"}}, "additionalProperties.minimum"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}}}, "$defs.a.$ref"),
    ({"$ref": "https://example.org/schema"}, "$ref"),
]


@pytest.mark.parametrize(("schema", "path"), FAULTS)
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_schema_is_refused_by_path(
    build: Any, schema: Any, path: str, strict: bool
) -> None:
    with pytest.raises(RequestError) as caught:
        build(**answer_format(schema, strict=strict))
    assert caught.value.param == f"response_format.json_schema.schema.{path}"
    with pytest.raises(RequestError) as caught:
        build(**tools(schema, strict=strict))
    assert caught.value.param == f"tools[0].function.parameters.{path}"


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"not": {}}, "not"),
        ({"properties": {"a": {"format": "zip"}}}, "properties.a.format"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "properties.a.pattern"),
        ({"items": [{"uniqueItems": True}]}, "items"),
        ({"$defs": {"x": {"dependentRequired": {}}}}, "$defs.x.dependentRequired"),
    ],
)
def test_what_is_not_enforced_is_refused_if_strict_and_left_out_if_not(
    build: Any, schema: Any, path: str
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        build(**answer_format(schema, strict=True))
    assert caught.value.param == f"response_format.json_schema.schema.{path}"
    with pytest.raises(UnsupportedParameter) as caught:
        build(**tools(schema, strict=True))
    assert caught.value.param == f"tools[0].function.parameters.{path}"
    with pytest.raises(UnsupportedParameter) as caught:
        build(guided_json=schema)
    assert caught.value.param == f"guided_json.{path}"

    assert build(**tools(schema)).tools[0].parameters == schema
    left = build(**answer_format(schema)).constraint.value
    assert path.rpartition(".")[2] not in json.loads(left).get("properties", {}).get(
        "a", json.loads(left)
    )


def test_arguments_are_an_object(build: Any) -> None:
    for fine in ({}, {"type": "object"}, {"type": ["object", "null"]}):
        build(**tools(fine))
    with pytest.raises(RequestError) as caught:
        build(**tools({"type": "array"}))
    assert caught.value.param == "tools[0].function.parameters.type"


def test_data_in_a_schema_is_no_schema(build: Any) -> None:
    fine = {"enum": [{"type": "strin", "not": {}}], "default": {"$ref": "#/nowhere", "anyOf": 5}}
    build(**answer_format(fine, strict=True))
