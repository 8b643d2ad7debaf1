"""GET /docs: the API on one page, without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front, Route
from jarvis_core.http.openapi import document
from jarvis_core.http.responses import JSON, Response

_CODE = re.compile("``(.+?)``")
_KEYS = {"key": "needs a key", "admin_key": "needs an admin key"}


async def show(front: Front, exchange: Exchange) -> Response:
    """This API as a page for people."""
    return Response(
        page(front.routes),
        content_type="text/html; charset=utf-8",
        headers={
            "content-security-policy": f"default-src 'none'; style-src '{_style_hash()}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        },
    )


@cache
def page(routes: Sequence[Route]) -> str:
    """The page for some routes: what their OpenAPI document says."""
    return "\n".join(_lines(document(routes)))


@cache
def _style() -> str:
    return files(__package__).joinpath("docs.css").read_text(encoding="utf-8")


def _style_hash() -> str:
    digest = hashlib.sha256(_style().encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _lines(api: Mapping[str, Any]) -> Iterator[str]:
    info = api["info"]
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(info['title'])}: the API</title><style>{_style()}</style></head><body>"
    yield f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
    yield f"<p>{escape(info['description'])} Keys are needed where the server has some.</p>"
    yield '<p>For programs: <a href="openapi.json"><code>/openapi.json</code></a>.</p><main>'
    tag, schemas = "", api["components"]["schemas"]
    bodies = set()
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{escape(tag)}</h2>"
            yield from _operation(method, path, operation, schemas)
            bodies.add(_body(operation))
    yield "<h2>shapes</h2>"
    for name, shape in schemas.items():
        if name not in bodies:
            yield f"<details><summary><code>{escape(name)}</code>"
            yield f'<span class="what">{_prose(shape["description"])}</span></summary>'
            yield f'<div id="{escape(name)}">'  # browsers open what holds the target of a link
            yield from _fields(shape)
            yield "</div></details>"
    yield "</main></body></html>"


def _operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[str]:
    keys = [_KEYS[name] for needed in operation["security"] for name in needed]
    yield f'<details><summary><span class="key">{", ".join(keys)}</span>'
    yield f'<span class="method">{escape(method.upper())}</span><code>{escape(path)}</code>'
    yield f'<span class="what">{_prose(operation["summary"])}</span></summary>'
    body = _body(operation)
    yield from _fields(schemas[body]) if body else ["<p>It takes no body.</p>"]
    yield "</details>"


def _body(operation: Mapping[str, Any]) -> str:
    """Name of the shape of its body; empty where it takes none."""
    if "requestBody" not in operation:
        return ""
    return _name(operation["requestBody"]["content"][JSON]["schema"])


def _fields(shape: Mapping[str, Any]) -> Iterator[str]:
    yield "<table><thead><tr><th>field<th>type<th>what becomes of it</thead><tbody>"
    for name, schema in shape["properties"].items():
        needed = " <b>needed</b>" if name in shape["required"] else ""
        yield f"<tr><td><code>{escape(name)}</code>{needed}<td>{_type(schema)}"
        yield f"<td>{_prose(schema.get('description', ''))}"
    yield "</tbody></table>"


def _prose(text: str) -> str:
    """A sentence of the code's own documentation, its ``code`` as such."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _name(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the shapes that it refers to."""
    if "$ref" in schema:
        name = escape(_name(schema))
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        found = dict.fromkeys(_type(member) for member in schema["anyOf"])
        return " or ".join(name for name in found if name != "null")
    if "enum" in schema:
        return ", ".join(escape(value) for value in schema["enum"] if value is not None)
    kinds = schema.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    return f"list: {_type(schema['items'])}" if kind == "array" else str(kind)
