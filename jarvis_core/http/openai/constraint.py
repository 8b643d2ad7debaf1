"""What a request asks the answer to obey, and whether it is something that can be obeyed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import orjson

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.openai.parameter_table import unsupported
from jarvis_core.http.openai.wire import (
    GenerationBody,
    JsonObjectFormatBody,
    JsonSchemaFormatBody,
    StructuredOutputsBody,
)
from jarvis_core.json_schema import faults, fitted, unenforced
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import Constraint, ModelInfo

MAX_DEPTH = 32
"""Levels of objects and arrays in a schema or a tool."""

ANY_OBJECT = Constraint(kind="json_schema", value='{"type":"object"}')
"""Any JSON object."""

_OPAQUE = frozenset({"const", "default", "enum", "examples"})
"""Keys of a schema whose values are data."""


def wanted(body: GenerationBody, settings: ServerSettings) -> tuple[str, Constraint] | None:
    """The constraint that a request asks for and the parameter that asks, or None.

    Raises:
        RequestError: It asks for two, for an empty one, or for one over the limits.
    """
    found = list(_all(body, settings))
    if not found:
        return None
    if len(found) > 1:
        names = " and ".join(name for name, _ in found[:2])
        raise RequestError(f"{names} cannot both be given", param=found[1][0])
    name, constraint = found[0]
    _check_size(constraint.value, name, settings)
    return name, constraint


def check_names(raw: Mapping[str, Any]) -> None:
    """Refuse a constraint that nobody knows: to ignore it would be to answer without it.

    Raises:
        UnsupportedParameter: ``structured_outputs`` of a request, checked before, holds one.
    """
    known = {field.name for field in attrs.fields(StructuredOutputsBody)}
    for name, value in (raw.get("structured_outputs") or {}).items():
        if name not in known and value is not None:
            raise UnsupportedParameter(
                f"structured_outputs takes one of {', '.join(sorted(known))}",
                param="structured_outputs",
            )


def refuse_what_cannot_be(name: str, constraint: Constraint, model: ModelInfo) -> None:
    """Refuse a constraint that the model's engine does not enforce.

    Raises:
        UnsupportedParameter: It names parameter, model and engine.
    """
    if constraint.kind not in model.capabilities.constraints:
        raise unsupported(name, model, f"the engine does not enforce {constraint.kind}")


def _check_size(value: str, name: str, settings: ServerSettings) -> None:
    if len(value.encode()) > settings.max_schema_bytes:
        raise RequestError(
            f"{name} is over the limit of {settings.max_schema_bytes} bytes", param=name
        )


def _all(body: GenerationBody, settings: ServerSettings) -> Iterator[tuple[str, Constraint]]:
    match body.response_format:
        case JsonObjectFormatBody(schema=None):
            yield "response_format", ANY_OBJECT
        case JsonObjectFormatBody(schema=dict(schema)):
            made = of_schema(schema, "response_format.schema", settings, strict=False)
            yield "response_format", made
        case JsonSchemaFormatBody(json_schema=named):
            path = "response_format.json_schema.schema"
            made = of_schema(named.schema, path, settings, strict=bool(named.strict))
            yield "response_format", made
    outputs = body.structured_outputs or StructuredOutputsBody()
    if outputs.json_object:
        yield "structured_outputs.json_object", ANY_OBJECT
    for prefix, source in (("structured_outputs.", outputs), ("guided_", body)):
        if (schema := getattr(source, _field(prefix, "json"))) is not None:
            yield prefix + "json", of_schema(schema, prefix + "json", settings, strict=True)
        if (regex := getattr(source, _field(prefix, "regex"))) is not None:
            yield prefix + "regex", Constraint(kind="regex", value=regex)
        if (choice := getattr(source, _field(prefix, "choice"))) is not None:
            yield prefix + "choice", Constraint(kind="choice", value=_dump(choice))
        if (grammar := getattr(source, _field(prefix, "grammar"))) is not None:
            yield prefix + "grammar", Constraint(kind="lark", value=grammar)


def _field(prefix: str, name: str) -> str:
    return prefix + name if prefix == "guided_" else name


def of_schema(
    schema: Mapping[str, Any] | str, param: str, settings: ServerSettings, *, strict: bool
) -> Constraint:
    """What an answer must obey that a schema describes.

    Args:
        schema: The schema, or its JSON text.
        param: The parameter that brought it, for errors.
        settings: The server's limits.
        strict: Whether what cannot be enforced is refused; else it is left out.

    Raises:
        RequestError: It is no schema, or over the limits.
        UnsupportedParameter: It is strict, and something of it is not enforced.
    """
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            raise RequestError(f"{param} is not valid JSON", param=param) from None
        if not isinstance(schema, dict):
            raise RequestError(f"{param} must be a JSON schema", param=param)
    _check_size(_dump(schema), param, settings)
    check_schema(schema, param, strict=strict)
    return Constraint(kind="json_schema", value=_dump(fitted(schema, strict=strict)))


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def check_depth(schema: Any, param: str, *, is_data: bool = False) -> None:
    """Refuse a schema that is too deep or that refers to something outside of itself.

    Args:
        schema: The schema, or data.
        param: Where it is, for errors.
        is_data: Whether it is data, in which a reference means nothing.

    Raises:
        RequestError: ``param`` is the path of the fault.
    """
    _check_level(schema, (param,), is_data=is_data)


def check_schema(schema: Any, param: str, *, strict: bool) -> None:
    """Refuse what is no schema, and if it is strict what of it is not enforced.

    Raises:
        RequestError: ``param`` is the path of the fault.
    """
    check_depth(schema, param)
    for fault in faults(schema):
        at = _joined((param, *fault.path))
        raise RequestError(f"{at} {fault.reason}", param=at)
    if not strict:
        return
    for fault in unenforced(schema):
        at = _joined((param, *fault.path))
        raise UnsupportedParameter(
            f"{at} {fault.reason}: leave it out, or leave strict out", param=at
        )


def _check_level(value: Any, path: tuple[str | int, ...], *, is_data: bool) -> None:
    if len(path) > MAX_DEPTH:
        raise RequestError(
            f"{path[0]} is nested deeper than {MAX_DEPTH} levels", param=str(path[0])
        )
    children: Any = enumerate(value)
    if isinstance(value, dict):
        children = value.items()
        reference = value.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#") and not is_data:
            at = _joined((*path, "$ref"))
            raise RequestError(
                f"{at} must begin with '#': nothing outside of the schema is read", param=at
            )
    for key, child in children:
        if isinstance(child, dict | list):
            _check_level(child, (*path, key), is_data=is_data or key in _OPAQUE)


def _joined(path: tuple[str | int, ...]) -> str:
    first, *rest = path
    return str(first) + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in rest)
