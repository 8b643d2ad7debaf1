"""GET /openapi.json: the API as an OpenAPI document, made of what the routes themselves use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jarvis_core.http import errors
from jarvis_core.http.auth import Scope
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front, Route
from jarvis_core.http.metrics import core_version
from jarvis_core.http.responses import JSON, Response, json
from jarvis_core.http.shape_schema import Definitions, Schema

_PATH_PARAMETER = re.compile(r"{(\w+)}")
_SCOPES: Mapping[Scope, list[Schema]] = {
    Scope.OPEN: [],
    Scope.USER: [{"key": []}],
    Scope.ADMIN: [{"admin_key": []}],
}
_ERROR: Schema = {
    "type": "object",
    "description": "What went wrong, in OpenAI's shape.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}


async def show(front: Front, exchange: Exchange) -> Response:
    """This API as an OpenAPI 3.1 document."""
    return json(document(front.routes))


@cache
def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of some routes."""
    definitions = Definitions()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for part in route.documented:
            operation = _operation(part, part.template, definitions)
            paths.setdefault(part.template, {})[part.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jarvis",
            "version": core_version(),
            "description": "Language models over HTTP: OpenAI's API, and Anthropic's messages.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**definitions.schemas, "Error": _ERROR},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "admin_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key that may change what is loaded.",
                },
            },
        },
    }


def _operation(route: Route, path: str, definitions: Definitions) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(route.endpoint) or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": _operation_id(route, path),
        "summary": summary,
        "tags": [_tag(path)],
        "security": _SCOPES[route.scope],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PATH_PARAMETER.findall(path)
        ],
        "responses": dict(_answers(route)),
    }
    if more.strip():
        operation["description"] = more.strip()
    if route.body is not None:
        schema = definitions.of(route.body, lambda name: _described(route, name))
        needed = bool(definitions.schemas[schema["$ref"].rpartition("/")[2]]["required"])
        operation["requestBody"] = {"required": needed, "content": {JSON: {"schema": schema}}}
    return operation


def _operation_id(route: Route, path: str) -> str:
    words = re.findall(r"\w+", path.removeprefix("/v1"))
    return "_".join((route.method.lower(), *words))


def _tag(path: str) -> str:
    """What a path is about: the first word after the version."""
    return path.removeprefix("/v1").split("/")[1]


def _described(route: Route, name: str) -> str:
    """What becomes of a field of the route's body."""
    if route.parameters is None or name not in route.parameters:
        return ""
    row = route.parameters[name]
    note = f": {row.note}" if row.note else ""
    return f"{row.treatment.value.capitalize()}{note}."


def _answers(route: Route) -> Iterator[tuple[str, Any]]:
    yield (
        "200",
        {
            "description": "The answer.",
            "content": {
                media: {"schema": {"type": "object" if media == JSON else "string"}}
                for media in route.media
            },
        },
    )
    in_openais_shape = route.error_body is errors.body
    schema = {"$ref": "#/components/schemas/Error"} if in_openais_shape else {"type": "object"}
    for status, who in (("4XX", "The request is at fault."), ("5XX", "The server failed.")):
        yield status, {"description": who, "content": {JSON: {"schema": schema}}}
