"""JSON schemas of wire shapes, made of the same types and bounds that check requests."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from jarvis_core.http.converter import Between, Length

Schema = dict[str, Any]

_PLAIN: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    types.NoneType: "null",
}


class Definitions:
    """Schemas of shapes by name, for ``components.schemas`` of an OpenAPI document.

    Attributes:
        schemas: What was asked for, and what that refers to.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._shapes: dict[str, type] = {}

    def of(self, type_: Any, describe: Callable[[str], str] = lambda name: "") -> Schema:
        """The schema of a type; a shape is defined once and referred to.

        Args:
            type_: A shape, or any type that the fields of shapes have.
            describe: What to say of the fields of ``type_`` itself.
        """
        if attrs.has(type_):
            return {"$ref": f"#/components/schemas/{self._define(type_, describe)}"}
        if type_ in _PLAIN:
            return {"type": _PLAIN[type_]}
        origin, arguments = get_origin(type_), get_args(type_)
        if origin is Annotated:
            return _bounded(self.of(arguments[0]), arguments[1:])
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin is tuple:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin in (Union, types.UnionType):
            return _either([self.of(member) for member in arguments])
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object"}
        if type_ is Any:
            return {}
        raise TypeError(f"no JSON schema for {type_}")

    def _define(self, shape: type, describe: Callable[[str], str]) -> str:
        name = shape.__name__.removesuffix("Body")
        if self._shapes.get(name, shape) is not shape:  # another API has a shape of that name
            name = shape.__module__.split(".")[-2].capitalize() + name
        if name in self._shapes:
            return name
        self._shapes[name] = shape
        self.schemas[name] = {}  # a shape may refer to itself
        properties = {}
        fields = attrs.fields(attrs.resolve_types(shape))
        required = [field for field in fields if field.default is attrs.NOTHING]
        for field in (*required, *(f for f in fields if f not in required)):
            properties[field.name] = self.of(field.type)
            if described := describe(field.name):
                properties[field.name] |= {"description": described}
        self.schemas[name] = {
            "type": "object",
            "description": (inspect.getdoc(shape) or "").partition("\n")[0],
            "properties": properties,
            "required": [field.name for field in required],
        }
        return name


def _bounded(schema: Schema, bounds: tuple[Any, ...]) -> Schema:
    for bound in bounds:
        match bound, schema.get("type"):
            case Between(least, greatest), _:
                schema |= {"minimum": least, "maximum": greatest}
            case Length(least, greatest), "array":
                schema |= {"minItems": least, "maxItems": greatest}
            case Length(least, greatest), _:
                schema |= {"minLength": least, "maxLength": greatest}
    return schema


def _either(schemas: list[Schema]) -> Schema:
    """One of several; null beside a single plain type is written as a second type of it."""
    others = [schema for schema in schemas if schema != {"type": "null"}]
    if len(others) == len(schemas):
        return {"anyOf": schemas}
    if len(others) == 1 and isinstance(others[0].get("type"), str):
        (only,) = others
        allowed = {"enum": [*only["enum"], None]} if "enum" in only else {}
        return {**only, "type": [only["type"], "null"], **allowed}
    return {"anyOf": [*others, {"type": "null"}]}
