"""LoRA adapters are models of their own to clients: a real catalogue, with the fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from sanic import Sanic

from jarvis_core.http.app import create_app
from jarvis_core.http.serve import bind, listen, url
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.settings import ModelConfig, ServerSettings

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose model has two adapters."""
    config = ModelConfig(
        name="m",
        source="fake/m",
        engine="fake",
        adapters={"pirate": "/a/pirate", "poet": "/a/poet"},
    )
    settings = ServerSettings(port=0)
    async with AsyncExitStack() as stack:
        catalogue = Catalogue({"m": config}, settings)
        stack.push_async_callback(catalogue.aclose)
        app: Sanic[Any, Any] = create_app(settings, catalogue)
        stack.callback(Sanic.unregister_app, app)
        stack.callback(app.ctx.front.responses.close)
        sock = bind(settings)
        server = await listen(app, sock)
        stack.callback(server.server.close)
        yield await stack.enter_async_context(
            httpx.AsyncClient(base_url=url(sock), timeout=30, trust_env=False)
        )
        for connection in tuple(server.connections):
            connection.abort()


async def test_adapters_are_listed_after_their_model(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["data"]

    assert [(m["id"], m["parent"]) for m in models] == [
        ("m", None),
        ("pirate", "m"),
        ("poet", "m"),
    ]
    assert (await client.get("/v1/models/poet")).json() == models[2]


async def test_an_adapter_shows_the_endpoints_that_generate(client: httpx.AsyncClient) -> None:
    await client.post("/tokenize", json={"model": "m", "prompt": "the model is loaded"})
    model = (await client.get("/v1/models/m")).json()["endpoints"]
    adapter = (await client.get("/v1/models/poet")).json()["endpoints"]

    assert set(model) - set(adapter) == {"/v1/embeddings", "/v1/rerank"}


async def test_an_adapter_is_asked_by_its_name_and_answers_by_it(
    client: httpx.AsyncClient,
) -> None:
    for path, body in (
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"prompt": "hello there"}),
        ("/v1/chat/completions/render", {"messages": HELLO}),
    ):
        answer = await client.post(path, json={"model": "poet", **body})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "poet"


async def test_the_engine_is_told_the_adapter(client: httpx.AsyncClient) -> None:
    for model, said in (("pirate", "pirate"), ("m", "None")):
        body = {"model": model, "prompt": "!adapter"}
        answer = await client.post("/v1/completions", json=body)
        assert answer.json()["choices"][0]["text"] == said


async def test_an_adapter_only_generates(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/embeddings", json={"model": "poet", "input": "a"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"
    assert "adapter 'poet'" in answer.json()["error"]["message"]


async def test_requests_of_adapters_count_for_their_model(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json={"model": "poet", "messages": HELLO})
    metrics = (await client.get("/metrics")).text

    assert 'jarvis_generation_tokens_total{engine="fake",model="m"} 2.0' in metrics
    assert "poet" not in metrics


@pytest.mark.parametrize("name", ["/a/poet", "../poet", "poet/", "Poet"])
async def test_other_names_find_no_adapter(client: httpx.AsyncClient, name: str) -> None:
    """S-08."""
    answer = await client.post("/v1/chat/completions", json={"model": name, "messages": HELLO})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
