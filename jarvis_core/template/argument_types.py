"""The types of arguments that a model writes as bare text: what the schema of a tool says of them.

``3`` between two tags is a number where the schema says so, and a text where it says that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jarvis_core.json_schema import TYPES, closed, fitted
from jarvis_core.rendering import tojson
from jarvis_core.structs import Tool

ANY = frozenset(TYPES)
TEXT = frozenset({"string"})
_DEFINITIONS = ("$defs", "definitions")
_PLAIN = frozenset({"type", "description", "title", "default", "examples", "$schema", "$comment"})
_SPACES = " \t\r\n"  # of JSON; other white space is text
_MAX_DEPTH = 8  # of references and alternatives
_WORDS = {"True": ("true", "boolean"), "False": ("false", "boolean"), "None": ("null", "null")}


class _Integer(str):
    """A number without a fraction, as it was written."""


class _Number(str):
    """A number with one."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_Integer, parse_float=_Number, parse_constant=_no_constant)
_TYPE_OF = {
    bool: ("boolean",),
    _Integer: ("integer", "number"),
    _Number: ("number", "integer"),  # 3.0 is an integer too, and 3.5 no text
    str: ("string",),
    list: ("array",),
    dict: ("object",),
    type(None): ("null",),
}


def argument_schema(tool: Tool | None, name: str) -> dict[str, Any]:
    """The schema of an argument, whole by itself; empty where a tool says nothing of it."""
    parameters = dict(tool.parameters) if tool else {}
    properties = parameters.get("properties")
    schema = properties.get(name) if isinstance(properties, Mapping) else None
    if schema is None:
        schema = parameters.get("additionalProperties")
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        schema = _referred(str(schema["$ref"]), parameters)
    if not isinstance(schema, Mapping):
        return {}
    return {**schema, **{key: parameters[key] for key in _DEFINITIONS if key in parameters}}


def enforced_schema(tool: Tool, name: str) -> dict[str, Any]:
    """The same as engines enforce it."""
    schema = argument_schema(tool, name)
    said = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    refers = '"$ref"' in json.dumps(said)
    return closed(fitted(schema if refers else said, strict=tool.strict))


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a value may have."""
    return frozenset(_types(schema, schema, 0))


def is_plain(schema: Any, *keywords: str) -> bool:
    """Whether a schema says nothing but types, beside these keywords."""
    if not isinstance(schema, Mapping):
        return False
    choices = schema.get("anyOf", ())
    return (
        isinstance(choices, Sequence)
        and schema.keys() <= {*_PLAIN, *_DEFINITIONS, "anyOf", *keywords}
        and all(is_plain(choice) for choice in choices)
    )


def argument_json(text: str, types: frozenset[str]) -> str:
    """What a model wrote as an argument, as JSON text: a string if it is nothing else."""
    if types == TEXT:
        return tojson(text)
    bare = text.strip(_SPACES)
    if bare in _WORDS and types != ANY and _WORDS[bare][1] in types:
        return _WORDS[bare][0]
    try:
        value = _DECODER.decode(bare)
    except (ValueError, RecursionError):
        return tojson(text)
    return bare if types.intersection(_TYPE_OF[type(value)]) else tojson(text)


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        yield from TYPES
        return
    if "$ref" in schema:
        yield from _types(_referred(str(schema["$ref"]), root), root, depth + 1)
        return
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := schema.get(key), Sequence) and choices:
            for choice in choices:
                yield from _types(choice, root, depth + 1)
            return
    if "const" in schema or isinstance(schema.get("enum"), Sequence):
        for value in [schema["const"]] if "const" in schema else schema["enum"]:
            yield from (
                ("integer", "number")
                if type(value) is int
                else _TYPE_OF.get(type(value), ("number",))
            )
        return
    kinds = schema.get("type")
    if kinds is None:
        yield from ("object",) if "properties" in schema else TYPES
    elif isinstance(kinds, str):
        yield kinds
    else:
        yield from kinds if isinstance(kinds, Sequence) else TYPES
    if schema.get("nullable"):
        yield "null"


def _referred(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in ref.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        found = found.get(step) if isinstance(found, Mapping) else None
    return found
