"""Schemas as engines enforce them."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jarvis_core.json_schema import arguments_schema, closed, compact, faults, fitted, unenforced
from jarvis_core.structs import Constraint, ModelInfo
from jarvis_core.testing.sampling import Sampler

MODEL = ModelInfo(name="m", source="m", engine="e", context_length=1)
NAMES = st.sampled_from(["a", "b", "c", "ü"])


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.sampled_from(
        [
            {"type": "integer", "minimum": -5},
            {"type": "string", "maxLength": 5, "not": {"const": "x"}},
            {"enum": ["é", 1, None]},
            {"type": "boolean"},
            {"const": {"deep": [1]}},
        ]
    )
    return st.recursive(leaves, _around, max_leaves=5)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(NAMES, inner, max_size=3).flatmap(
        lambda members: st.sets(st.sampled_from(sorted(members) or ["x"])).map(
            lambda required: {
                "type": "object",
                "properties": members,
                "required": sorted(required & members.keys()),
            }
        )
    )
    arrays = inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2})
    either = st.lists(inner, min_size=1, max_size=2).map(lambda choices: {"anyOf": choices})
    return objects | arrays | either


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas(), st.integers(0, 1000))
def test_what_is_sampled_from_a_fitted_schema_is_valid_for_it_as_far_as_it_is_enforced(
    schema: dict[str, Any], seed: int
) -> None:
    fit = closed(fitted(schema))
    text = Sampler(Constraint(kind="lark", value=f"start: %json {compact(fit)}"), MODEL).sample(
        random.Random(seed)
    )
    jsonschema.validate(json.loads(text), fitted(schema))


def test_closing_an_object_rules_out_members_that_it_does_not_name() -> None:
    inner = {"type": "object", "properties": {"x": {}}}
    outer = {"type": "object", "properties": {"inner": inner, "free": {"type": "object"}}}
    assert closed(outer) == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "inner": {"type": "object", "properties": {"x": {}}, "additionalProperties": False},
            "free": {"type": "object"},
        },
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "patternProperties": {"b": {}}},
        {"properties": {"a": {}}, "anyOf": [{"required": ["b"]}]},
        {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}, "required": ["b"]}]},
        {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
    ],
)
def test_an_object_is_not_closed_where_that_could_change_its_meaning(schema: Any) -> None:
    assert closed(schema) == schema


def test_arguments_are_always_an_object() -> None:
    assert arguments_schema({}) == {"type": "object"}
    assert arguments_schema({"type": ["object", "null"]})["type"] == "object"
    empty = {"type": "object", "properties": {}}
    assert arguments_schema(empty) == {**empty, "additionalProperties": False}


def test_a_strict_schema_keeps_what_is_not_enforced_so_that_it_is_refused() -> None:
    schema = {"not": {}, "oneOf": [{}], "uniqueItems": False}
    assert fitted(schema, strict=True) == {"not": {}, "oneOf": [{}]}
    assert fitted(schema) == {"anyOf": [{}]}


def test_alternatives_of_both_kinds_are_all_kept() -> None:
    schema = {"oneOf": [{"type": "string"}], "anyOf": [{"maxLength": 3}]}
    assert fitted(schema) == schema


@pytest.mark.parametrize(
    ("ref", "right"),
    [
        ("#/anyOf/0", True),
        ("#/anyOf/1", True),
        ("#/anyOf/2", False),
        ("#/anyOf/-1", False),
        ("#/anyOf/x", False),
        ("#/$defs/a~1b", True),
        ("#/$defs/a", False),
        ("#", True),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_fault(ref: str, right: bool) -> None:
    schema = {"anyOf": [{"type": "string"}, {"$ref": ref}], "$defs": {"a/b": {}}}
    told = [(fault.path, fault.reason) for fault in faults(schema)]
    assert told == ([] if right else [(("anyOf", 1, "$ref"), "refers to nothing in the schema")])


def test_faults_and_what_is_not_enforced_are_told_by_path() -> None:
    schema = {"properties": {"a": {"items": {"type": "x", "if": {}}}}, "allOf": [{"enum": 1}]}
    assert [f.path for f in faults(schema)] == [
        ("properties", "a", "items", "type"),
        ("allOf", 0, "enum"),
    ]
    assert [f.path for f in unenforced(schema)] == [("properties", "a", "items", "if")]
