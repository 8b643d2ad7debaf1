"""The served documents: valid, complete, and of one mind with what requests are checked by."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from jarvis_core.errors import RequestError
from jarvis_core.http.converter import structurer
from jarvis_core.http.openapi import document
from jarvis_core.http.routes import ROUTES

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
DOCUMENT = document(ROUTES)
WITH_BODY = [part for route in ROUTES for part in route.documented if part.body is not None]


def operation(route: Any) -> Any:
    return DOCUMENT["paths"][route.template][route.method.lower()]


async def test_the_document_is_valid_and_served(serve: Serve) -> None:
    served = (await (await serve()).client.get("/openapi.json")).json()

    assert served == DOCUMENT
    OpenAPIV31SpecValidator(served).validate()


def test_every_route_is_in_the_document() -> None:
    for route in ROUTES:
        for part in route.documented:
            found = operation(part)
            named = set(re.findall(r"{(\w+)}", part.template))
            assert found["summary"]
            assert named == {parameter["name"] for parameter in found["parameters"]}


def test_a_body_without_which_a_route_answers_is_not_required() -> None:
    needed = {route.template: operation(route)["requestBody"]["required"] for route in WITH_BODY}

    assert [path for path, body in needed.items() if not body] == ["/v1/models/{name}/sleep"]


def test_operations_have_names_of_their_own() -> None:
    names = [o["operationId"] for path in DOCUMENT["paths"].values() for o in path.values()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
def test_the_fields_of_a_body_are_the_parameters_of_its_table(route: Any) -> None:
    schema = operation(route)["requestBody"]["content"]["application/json"]["schema"]
    shape = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]

    # A route that only looks at what another one would do has that one's body.
    table = next(r.parameters for r in WITH_BODY if r.body is route.body and r.parameters)
    assert set(table) == shape["properties"].keys()
    for name in table:
        assert shape["properties"][name]["description"]


# 1.0 is an integer to JSON schema and none to this server.
FLOATS = st.floats(-3, 3).filter(lambda number: not number.is_integer())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | FLOATS | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), inner, max_size=3)
    ),
    max_leaves=4,
)
GOOD: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "a",
    "input": "a",
    "query": "a",
    "documents": ["a"],
    "tokens": [1],
    "max_tokens": 5,
}


STRUCTURERS = {route.body: structurer(route.body) for route in WITH_BODY if route.body}


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_schema_takes_what_the_server_takes(route: Any, data: st.DataObject) -> None:
    """One field at a time gets any value: schema and converter say the same of it."""
    schema = operation(route)["requestBody"]["content"]["application/json"]["schema"]
    shape = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    body = {name: value for name, value in GOOD.items() if name in shape["properties"]}
    name = data.draw(st.sampled_from(sorted(shape["properties"])))
    body[name] = data.draw(JSON)
    try:
        STRUCTURERS[route.body](body)
        taken = True
    except RequestError:
        taken = False
    whole = {**schema, "components": DOCUMENT["components"]}
    faults = list(jsonschema.Draft202012Validator(whole).iter_errors(body))

    assert taken == (not faults), (body, faults)


async def test_the_page_has_every_path_and_loads_nothing(serve: Serve) -> None:
    answer = await (await serve()).client.get("/docs")
    policy, page = answer.headers["content-security-policy"], answer.text
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert all(f"<code>{path}</code>" in page for path in DOCUMENT["paths"])
    assert re.findall(r"https?:|//|<script|<img|<link|@import|url\(", page) == []


async def test_code_in_sentences_of_the_page_is_set_as_code(serve: Serve) -> None:
    page = (await (await serve()).client.get("/docs")).text

    assert "with <code>stream=true</code>" in page
    assert "``" not in page


async def test_links_on_the_page_lead_to_a_shape(serve: Serve) -> None:
    page = (await (await serve()).client.get("/docs")).text
    links = set(re.findall(r'href="#(\w+)"', page))

    assert links
    assert links <= set(re.findall(r'id="(\w+)"', page))


async def test_the_page_needs_no_key_and_the_document_does(serve: Serve) -> None:
    served = await serve(api_key="k")

    assert (await served.client.get("/docs")).status_code == 200
    assert (await served.client.get("/openapi.json")).status_code == 401


async def test_a_model_shows_what_becomes_of_each_parameter(
    serve: Serve, kit: SimpleNamespace
) -> None:
    served = await serve(kit.make_engine_model(tasks=("generate", "embed")))
    endpoints = (await served.client.get("/v1/models/tiny")).json()["endpoints"]

    assert "/v1/embeddings" in endpoints
    assert "/v1/rerank" not in endpoints
    chat = endpoints["/v1/chat/completions"]
    assert "temperature" in chat["honoured"]
    assert "user" in chat["without_effect"]
    assert {"mirostat", "functions", "response_format"} <= set(chat["refused"])
