"""Validators made of the published schemas in ``tests/data``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator

_DATA = Path(__file__).parents[1] / "data"

Publication = Literal["openai", "openresponses"]


def faults(publication: Publication, schema: str, value: Any) -> list[str]:
    """What is wrong with a JSON value by a published schema; nothing where it is valid."""
    return [
        f"{publication} {schema} at {'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in _validator(publication, schema).iter_errors(value)
    ]


def response_faults(response: Any) -> list[str]:
    """What is wrong with a response, by both publications."""
    return faults("openai", "Response", response) + faults(
        "openresponses", "ResponseResource", response
    )


def event_faults(events: Iterable[Any]) -> list[str]:
    """What is wrong with the events of a response, by both publications."""
    return [
        f"{event.get('type')}: {fault}"
        for event in events
        for publication in ("openai", "openresponses")
        for fault in faults(publication, "ResponseStreamEvent", event)
    ]


def properties(publication: Publication, schema: str) -> set[str]:
    """Names of the properties of a published schema, with those of what it is made of."""
    schemas = _document(publication)["components"]["schemas"]

    def names(part: Any) -> Iterable[str]:
        if "$ref" in part:
            yield from names(schemas[part["$ref"].rpartition("/")[2]])
        for inner in part.get("allOf", ()):
            yield from names(inner)
        yield from part.get("properties", ())

    return set(names(schemas[schema]))


def _document(publication: Publication) -> Any:
    return json.loads((_DATA / f"{publication}.json").read_text(encoding="utf-8"))


@cache
def _validator(publication: Publication, schema: str) -> Draft202012Validator:
    components = _document(publication)["components"]
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": _nullable(components)}
    )


def _nullable(schema: Any) -> Any:
    """The schema with null allowed where OpenAPI 3.0's ``nullable`` says so."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _nullable(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") is True else made
