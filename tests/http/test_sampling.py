"""What a request does not say of sampling comes from the model, alike in every API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from jarvis_core.models.sampling import SamplingDefault
from jarvis_core.structs import Delta, SamplingParams, Usage

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]

HELLO = [{"role": "user", "content": "hello"}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
}
DEFAULTS = {
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.05,
    "typical_p": 0.8,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
}
OWN = {
    "temperature": 0,
    "top_p": 0.5,
    "top_k": 0,
    "min_p": 0,
    "typical_p": 1,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
KINDS = (("prompt", "input"), ("completion", "output"))
OF_MESSAGES = ("temperature", "top_p", "top_k")

every_route = pytest.mark.parametrize("path", ROUTES)


@pytest.fixture
def ask(serve: Serve, kit: SimpleNamespace) -> Any:
    """Asks a model that has defaults; its answer, and how it was sampled."""

    async def ask(path: str, **parameters: Any) -> tuple[Any, SamplingParams]:
        model = make_model(kit)
        served = await serve(model)
        answer = await served.post(path, **ROUTES[path], **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json(), model.requests[0].sampling

    return ask


def make_model(kit: SimpleNamespace) -> Any:
    model = kit.make_model()
    model.status = evolve(model.status, info=evolve(model.info, sampling=DEFAULTS))
    model.script = says
    return model


async def says(request: Any) -> Any:
    """Any answer, to a chat or a completion."""
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    yield [Delta(content="x", finish_reason="stop", usage=usage)]


def numbers(sampling: SamplingParams) -> dict[str, float]:
    return {name: getattr(sampling, name) for name in DEFAULTS}


@every_route
async def test_what_is_not_said_is_the_models_default(ask: Any, path: str) -> None:
    _, sampling = await ask(path)

    assert numbers(sampling) == DEFAULTS


@every_route
async def test_null_says_nothing(ask: Any, path: str) -> None:
    known = OF_MESSAGES if path == "/v1/messages" else DEFAULTS
    _, sampling = await ask(path, **dict.fromkeys(known))

    assert numbers(sampling) == DEFAULTS


@every_route
async def test_a_requests_own_value_goes_first_if_it_is_neutral(ask: Any, path: str) -> None:
    own = {n: v for n, v in OWN.items() if path != "/v1/messages" or n in OF_MESSAGES}
    _, sampling = await ask(path, **own)

    assert numbers(sampling) == {**DEFAULTS, **own}


async def test_a_response_says_how_it_was_sampled(ask: Any) -> None:
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    body, _ = await ask("/v1/responses")
    own, _ = await ask("/v1/responses", temperature=0, top_p=0)

    assert {name: body[name] for name in names} == {name: DEFAULTS[name] for name in names}
    assert (own["temperature"], own["top_p"], own["presence_penalty"]) == (0, 0, 0.5)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_how_long_an_answer_may_be_has_a_default(
    serve: Serve, kit: SimpleNamespace, path: str
) -> None:
    name = "max_tokens" if path == "/v1/chat/completions" else "max_output_tokens"
    room = 40
    model = kit.make_engine_model(context_length=room)
    model.status = evolve(model.status, info=evolve(model.info, sampling={"max_tokens": 4}))
    served = await serve(model)

    async def said(text: str, **parameters: Any) -> tuple[int, int]:
        """Tokens of the prompt and of the answer."""
        key = "messages" if path == "/v1/chat/completions" else "input"
        body = {key: [{"role": "user", "content": text}], **parameters}
        answer = await served.post(path, **body)
        assert answer.status_code == 200, answer.text
        if path == "/v1/responses":
            assert answer.json()["max_output_tokens"] == parameters.get(name, 4)
        usage = answer.json()["usage"]
        counts = [usage.get(f"{a}_tokens", usage.get(f"{b}_tokens")) for a, b in KINDS]
        return counts[0], counts[1]

    prompt, default = await said("!words=9")
    _, own = await said("!words=9", **{name: 6})
    longer, less = await said("!words=9" + " x" * (room - prompt - 2))

    assert (default, own) == (4, 6)
    assert (longer, less) == (room - 2, 2)


async def test_the_dry_run_shows_how_a_request_would_be_sampled(
    serve: Serve, kit: SimpleNamespace
) -> None:
    defaults = {"top_p": 0.9, "max_tokens": 8}
    model = kit.make_engine_model()
    model.status = evolve(model.status, info=evolve(model.info, sampling=defaults))
    served = await serve(model)
    body = {"messages": HELLO, "temperature": 0.5}
    shown = (await served.post("/v1/chat/completions/render", **body)).json()

    assert shown["sampling"] == {"temperature": 0.5, "top_p": 0.9, "max_tokens": 8}


async def test_a_model_shows_its_defaults_and_where_they_are_from(
    serve: Serve, kit: SimpleNamespace
) -> None:
    defaults = {
        "temperature": SamplingDefault(value=0.6, origin="model"),
        "top_k": SamplingDefault(value=20, origin="setting"),
        "top_p": SamplingDefault(value=1.0, origin="default"),
    }
    served = await serve(kit.make_model(sampling=defaults))
    one = (await served.client.get("/v1/models/tiny")).json()
    listed = (await served.client.get("/v1/models")).json()["data"][0]

    assert one["sampling"] == listed["sampling"]
    assert one["sampling"] == {
        "temperature": {"value": 0.6, "from": "model"},
        "top_k": {"value": 20, "from": "setting"},
        "top_p": {"value": 1.0, "from": "default"},
    }
