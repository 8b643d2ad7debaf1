"""JSON schemas as constraints: what is wrong with one, what is not enforced, how to fit one.

Engines enforce schemas with llguidance. Source: its docs/json_schema.md, and its version 1.9.1
tried on every keyword of draft 2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

Path = tuple[str | int, ...]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
"""Values of ``format`` that are enforced."""

UNENFORCED = frozenset(
    {
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems",
        "dependentRequired", "dependentSchemas", "dependencies", "propertyNames",
        "unevaluatedProperties", "unevaluatedItems", "additionalItems", "$dynamicRef",
        "$recursiveRef",
    }
)  # fmt: skip
"""Keywords that say something about a value and are not enforced."""

_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_NUMBERS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
)  # fmt: skip


@frozen
class Fault:
    """Something in a schema, and where.

    Attributes:
        path: Keys and indexes that lead to it.
        reason: What is wrong, to follow the path in a sentence.
    """

    path: Path
    reason: str


def faults(schema: Any) -> Iterator[Fault]:
    """What makes this no schema: keywords whose values are not what they have to be."""
    for path, at in _schemas(schema):
        if isinstance(at, bool):
            continue
        if not isinstance(at, dict):
            yield Fault(path, "must be a JSON schema: an object, true or false")
            continue
        yield from (Fault((*path, key), reason) for key, reason in _faults_of(at))
        if isinstance(ref := at.get("$ref"), str) and not _resolves(ref, schema):
            yield Fault((*path, "$ref"), "refers to nothing in the schema")


def unenforced(schema: Any) -> Iterator[Fault]:
    """What a valid value has to obey and no engine enforces."""
    for path, at in _schemas(schema):
        if isinstance(at, dict):
            for key, value in at.items():
                if _is_unenforced(key, value):
                    yield Fault((*path, key), "is not enforced")


def fitted(schema: Any, *, strict: bool = False) -> Any:
    """The schema as engines take it: every valid value is valid for it too.

    Args:
        schema: The schema.
        strict: Whether an engine has to refuse what it does not enforce; else that is left out.
    """
    return _without(schema, strict=strict)


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema in which objects have no members but those that it names.

    A small model that may add members adds them without end. Every value that is valid for the
    closed schema is valid for the given one; where that is not certain it is returned as it is.
    """
    if any(_depends_on_openness(at) for _, at in _schemas(dict(schema))):
        return dict(schema)
    return dict(_closed(dict(schema)))


def arguments_schema(parameters: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
    """The schema that the arguments of a call are made to obey: always an object.

    Args:
        parameters: The schema of a tool.
        strict: As in ``fitted``.
    """
    return closed({**fitted(dict(parameters), strict=strict), "type": "object"})


def compact(schema: Mapping[str, Any], item: str = ", ", key: str = ": ") -> str:
    """Schema text for ``%json`` that leaves no choice of white space.

    Args:
        schema: The schema.
        item: What stands between members and items.
        key: What stands between key and value.
    """
    style = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
    return json.dumps({**schema, "x-guidance": style}, ensure_ascii=False)


def bounded(schema: Any) -> str:
    """Schema text for ``%json`` that allows some white space, not any amount of it."""
    if not isinstance(schema, dict):
        return json.dumps(schema)
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": r"[ \n\t]{1,24}"}})


# -- parts -----------------------------------------------------------------------------------


def _schemas(schema: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The schema and all those in it, with the keys that lead to them."""
    yield path, schema
    if not isinstance(schema, dict):
        return
    for key in _NAMED:
        if isinstance(members := schema.get(key), dict):
            for name, child in members.items():
                yield from _schemas(child, (*path, key, name))
    for key in (*_LISTED, "items"):
        if isinstance(items := schema.get(key), list):
            for i, child in enumerate(items):
                yield from _schemas(child, (*path, key, i))
    for key in _SINGLE:
        if key in schema and not isinstance(schema[key], list):
            yield from _schemas(schema[key], (*path, key))


def _faults_of(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    types = schema.get("type", [])
    listed = types if isinstance(types, list) else [types]
    if any(t not in TYPES for t in listed if isinstance(t, str)) or not _all_text(listed):
        yield "type", f"must be one or several of {', '.join(TYPES)}"
    for key in _NAMED:
        if not isinstance(schema.get(key, {}), dict):
            yield key, "must be an object of schemas"
    for key in _LISTED:
        if key in schema and not (isinstance(schema[key], list) and schema[key]):
            yield key, "must be a list of schemas"
    if not (isinstance(schema.get("required", []), list) and _all_text(schema.get("required", []))):
        yield "required", "must be a list of names"
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        yield "enum", "must be a list of values"
    for key in ("pattern", "format", "$ref"):
        if not isinstance(schema.get(key, ""), str):
            yield key, "must be a string"
    for key in _NUMBERS:
        if isinstance(schema.get(key, 0), bool) or not isinstance(schema.get(key, 0), int | float):
            yield key, "must be a number"


def _all_text(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _resolves(ref: str, root: Any) -> bool:
    if not ref.startswith("#/"):
        return True  # an anchor or another document is not ours to judge
    for step in ref[2:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and step.isdecimal() and int(step) < len(root):
            root = root[int(step)]
        elif isinstance(root, dict) and step in root:
            root = root[step]
        else:
            return False
    return True


def _is_unenforced(key: str, value: Any) -> bool:
    if key in ("format", "pattern", "items"):
        return (
            (key == "format" and value not in FORMATS)
            or (key == "pattern" and isinstance(value, str) and bool(_LOOKS_AROUND.search(value)))
            or (key == "items" and isinstance(value, list))
        )
    return key in UNENFORCED and not _is_neutral(key, value)


def _is_neutral(key: str, value: Any) -> bool:
    return key == "uniqueItems" and value is False


def _without(schema: Any, *, strict: bool) -> Any:
    """The schema without neutral keywords, and if not strict without all that is not enforced."""
    if isinstance(schema, list):
        return [_without(item, strict=strict) for item in schema]
    if not isinstance(schema, dict):
        return schema
    fitting = {
        key: _without_in(key, value, strict=strict)
        for key, value in schema.items()
        if not (_is_neutral(key, value) or (_is_unenforced(key, value) and not strict))
    }
    if not strict and "oneOf" in fitting and "anyOf" not in fitting:
        fitting["anyOf"] = fitting.pop("oneOf")
    return fitting


def _without_in(key: str, value: Any, *, strict: bool) -> Any:
    if key in _NAMED and isinstance(value, dict):
        return {name: _without(child, strict=strict) for name, child in value.items()}
    return _without(value, strict=strict) if key in _LISTED or key in _SINGLE else value


def _depends_on_openness(schema: Any) -> bool:
    """Whether closing some object elsewhere could change what this schema means."""
    return isinstance(schema, dict) and not schema.keys().isdisjoint(
        {"allOf", "oneOf", "not", "if", "$dynamicRef", "unevaluatedProperties"}
    )


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _closed(child) for name, child in value.items()}
        if key in _NAMED and isinstance(value, dict)
        else [_closed(child) for child in value]
        if key in (*_LISTED, "items") and isinstance(value, list)
        else _closed(value)
        if key in _SINGLE
        else value
        for key, value in schema.items()
    }
    if _is_open_by_default(schema):
        made["additionalProperties"] = False
    return made


def _is_open_by_default(schema: dict[str, Any]) -> bool:
    beside = {"additionalProperties", "patternProperties", "anyOf", "$ref", "minProperties"}
    properties = schema.get("properties")
    return (
        isinstance(properties, dict)
        and schema.keys().isdisjoint(beside)
        and set(schema.get("required", ())) <= properties.keys()
    )
