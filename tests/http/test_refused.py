"""Errors over the wire, at every endpoint that asks a model: status, type, code and param."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jarvis_core import errors
from jarvis_core.errors import JarvisError
from jarvis_core.http.routes import ROUTES

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
HELLO = [{"role": "user", "content": "hello there"}]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/chat/completions/render": {"messages": HELLO},
    "/v1/completions": {"prompt": "a"},
    "/v1/embeddings": {"input": "a"},
    "/v1/rerank": {"query": "a", "documents": ["a"]},
    "/tokenize": {"prompt": "a"},
    "/detokenize": {"tokens": []},
}
TABLE = [
    (errors.UnsupportedParameter, 400, "invalid_request_error", "unsupported_parameter"),
    (errors.ContextLengthExceeded, 400, "invalid_request_error", "context_length_exceeded"),
    (errors.ConfigError, 409, "invalid_request_error", "model_load_failed"),
    (errors.StateConflict, 409, "invalid_request_error", "conflict"),
    (errors.PoisonRequest, 422, "invalid_request_error", "poison_request"),
    (errors.RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.EngineError, 500, "server_error", "engine_error"),
    (errors.EngineDied, 503, "server_error", "engine_died"),
    (errors.ModelUnavailable, 503, "server_error", "model_unavailable"),
    (errors.QueueFull, 503, "server_error", "queue_full"),
    (errors.DeadlineExceeded, 504, "server_error", "deadline_exceeded"),
    (errors.InsufficientMemory, 507, "server_error", "insufficient_memory"),
]


@pytest.mark.parametrize(("raised", "status", "kind", "code"), TABLE)
async def test_what_fails_before_the_first_byte_is_an_http_error(
    serve: Serve, raised: type[JarvisError], status: int, kind: str, code: str
) -> None:
    served = await serve()
    served.catalogue.lease_error = raised("what, where, what to do", param="model")
    for path, fields in GOOD.items():
        for stream in (False, True):
            answer = await served.post(path, **fields, stream=stream)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["error"] == {
                "message": "what, where, what to do",
                "type": kind,
                "param": "model",
                "code": code,
            }
            assert ("retry-after" in answer.headers) == (status in (429, 503))
            assert answer.headers["x-request-id"]
            assert int(answer.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize("path", GOOD)
async def test_an_unknown_model_is_not_found(serve: Serve, path: str) -> None:
    answer = await (await serve()).client.post(path, json={"model": "nope", **GOOD[path]})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("path", GOOD)
async def test_a_model_must_be_named(serve: Serve, path: str) -> None:
    served = await serve()
    for body, said in (
        (GOOD[path], "model is required"),
        ({**GOOD[path], "model": 1}, "model must be a string, not an integer"),
        ({**GOOD[path], "model": ""}, "model must not be empty"),
    ):
        answer = await served.client.post(path, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == said


HOSTILE = {
    "no JSON": b"{",
    "no UTF-8": b'{"model":"tiny","user":"\xff"}',
    "a lone surrogate": b'{"model":"tiny","user":"\\ud800"}',
    "NaN": b'{"model":"tiny","temperature":NaN}',
    "arrays 10,000 deep": b'{"model":"tiny","user":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "objects 10,000 deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a million arrays": b'{"model":"tiny","input":[' + b"[]," * 1_100_000 + b"[]]}",
    "a number too large": b'{"model":"tiny","temperature":1e999}',
    "nothing": b"",
    "a list": b"[1]",
    "every field wrong": json.dumps(
        {key: [{}] for key in ("model", "messages", "input", "prompt", "query", "tokens")}
    ).encode(),
}


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_bodies_are_refused_in_time_and_disturb_nobody(
    serve: Serve, hostile: str
) -> None:
    """S-05."""
    served = await serve()
    for route in ROUTES:
        if route.body is None:
            continue
        began = time.perf_counter()
        refused = asyncio.create_task(served.client.post(route.path, content=HOSTILE[hostile]))
        live = await served.client.get("/health/live")
        answer = await refused
        assert live.status_code == 200
        assert answer.status_code == 400, route.path
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert time.perf_counter() - began < 5  # far more than it takes: the machine may be busy


@pytest.mark.parametrize(
    "fields",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"$ref": "http://127.0.0.1:9/a.json"}},
            }
        },
        {"guided_json": {"properties": {"a": {"$ref": "file:///etc/passwd"}}}},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {"type": "object", "$ref": "https://x.example/a"},
                    },
                }
            ]
        },
    ],
)
async def test_references_to_elsewhere_are_refused_and_not_followed(
    serve: Serve, fields: dict[str, Any]
) -> None:
    served = await serve()
    answer = await served.post("/v1/chat/completions", messages=HELLO, **fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].endswith("$ref")
    assert served.model.requests == []


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "/v1/chat/completions",
        {"prompt_logprobs": 20},
        {"prompt_logprobs": 21},
        "prompt_logprobs",
    ),
    ("/v1/completions", {"prompt": ["a"] * 64}, {"prompt": ["a"] * 65}, "prompt"),
    ("/v1/completions", {"prompt": [[0]] * 64}, {"prompt": [[0]] * 65}, "prompt"),
    ("/v1/completions", {"n": 16}, {"n": 17}, "n"),
    ("/v1/completions", {"best_of": 16}, {"best_of": 17}, "best_of"),
    ("/v1/completions", {"logprobs": 20}, {"logprobs": 21}, "logprobs"),
    ("/v1/completions", {"stop": ["a"] * 16}, {"stop": ["a"] * 17}, "stop"),
    ("/v1/completions", {"stop": "ä" * 128}, {"stop": "ä" * 128 + "a"}, "stop"),
    ("/v1/embeddings", {"input": ["a"] * 2048}, {"input": ["a"] * 2049}, "input"),
    ("/v1/rerank", {"documents": ["a"] * 2048}, {"documents": ["a"] * 2049}, "documents"),
]


@pytest.mark.parametrize(("path", "most", "more", "param"), LIMITS)
async def test_limits_are_served_at_n_and_refused_at_n_plus_1(
    serve: Serve,
    kit: SimpleNamespace,
    path: str,
    most: dict[str, Any],
    more: dict[str, Any],
    param: str,
) -> None:
    """S-06."""
    served = await serve(kit.make_engine_model())
    await served.post("/tokenize", prompt="a")  # the fake engine has a first token then
    answer = await served.post(path, **{**GOOD[path], **most})
    refusal = await served.post(path, **{**GOOD[path], **more})

    assert answer.status_code == 200, answer.text
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == param


async def test_canaries_show_up_nowhere(
    serve: Serve, kit: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """S-09: a key and a text that went through every endpoint, well and badly."""
    caplog.set_level("DEBUG")
    served = await serve(kit.make_engine_model(), api_key="canary-key")
    headers = {"authorization": "Bearer canary-key"}
    secret = "canary-text"
    bodies = [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": secret}]}),
        ("/v1/chat/completions", {"messages": [{"role": secret, "content": secret}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"{secret} !bug=1"}]}),
        ("/v1/chat/completions", {"messages": HELLO, "stop": [secret * 40]}),
        ("/v1/chat/completions", {"messages": HELLO, "guided_regex": f"({secret}"}),
        ("/v1/chat/completions", {"messages": HELLO, "user": secret, "metadata": {"a": secret}}),
        ("/v1/completions", {"prompt": f"{secret} !error=1"}),
        ("/v1/completions", {"prompt": secret, "suffix": secret}),
        ("/v1/embeddings", {"input": [secret, ""]}),
        ("/v1/embeddings", {"input": f"{secret} " * 5000}),
        ("/v1/embeddings", {"input": f"{secret} !bug=0"}),
        ("/v1/rerank", {"query": secret, "documents": [1, secret]}),
        ("/tokenize", {"prompt": secret, "messages": [secret]}),
        ("/detokenize", {"tokens": [secret]}),
    ]
    for path, body in bodies:
        for stream in (False, True):
            sent = {"model": "tiny", "stream": stream, **body}
            answer = await served.client.post(path, json=sent, headers=headers)
            if answer.status_code != 200:
                assert secret not in answer.text, path
    await served.client.get("/v1/models", headers={"authorization": "Bearer canary-wrong"})
    metrics = (await served.client.get("/metrics", headers=headers)).text

    assert "canary" not in metrics
    assert "canary" not in caplog.text
    assert caplog.records
