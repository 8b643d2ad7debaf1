"""Conversations that do not fit: refused, or without their oldest turns if that is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from jarvis_core.errors import ContextLengthExceeded
from jarvis_core.structs import ModelSpec, Prompt
from jarvis_core.testing import FakeEngine, FakeSettings

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
Make = Callable[..., Any]

LONG: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    *(
        {"role": role, "content": f"{role} {number} " + "word " * 8}
        for number in range(6)
        for role in ("user", "assistant")
    ),
    {"role": "user", "content": "last"},
]


async def test_what_does_not_fit_is_refused(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    client = responses(await serve(kit.make_engine_model(context_length=64)))
    error = await client.refused(LONG)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


async def test_the_oldest_turns_make_room(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    served = await serve(kit.make_engine_model(context_length=64))
    client = responses(served)
    body = await client.create(LONG, truncation="auto")
    sent = [message.content for message in served.model.requests[-1].messages]
    assert sent[0] == "Be brief."
    assert sent[1].startswith("user 4 ")
    assert sent[-1] == "last"
    assert body["truncated_items"] == len(LONG) - len(sent)
    assert body["truncation"] == "auto"
    answer = await client.post(LONG, truncation="auto", stream=True)
    assert answer.headers["x-jarvis-truncated-items"] == str(body["truncated_items"])


class Wary(FakeEngine):
    """Refuses to tokenize what is far too long, as engines do."""

    async def tokenize(self, prompt: Prompt) -> list[int]:
        if len(prompt.text) > 8 * self.info.context_length:
            raise ContextLengthExceeded("the prompt has more tokens than fit", param="messages")
        return await super().tokenize(prompt)


async def test_a_conversation_may_be_longer_than_an_engine_counts(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    model = kit.make_engine_model()
    spec = ModelSpec(name="tiny", source="tiny", path="tiny")
    engine = Wary(spec, FakeSettings(context_length=64))
    model.loaded = evolve(model.loaded, engine=engine, info=engine.info)
    model.status = evolve(model.status, info=engine.info)
    client = responses(await serve(model))
    body = await client.create(LONG, truncation="auto")
    assert body["truncated_items"] > 0
    assert model.requests[-1].messages[-1].content == "last"
    assert (await client.refused(LONG))["code"] == "context_length_exceeded"


async def test_as_little_as_possible_is_left_out(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    dropped = []
    for context_length in (64, 100, 130, 160, 200):
        served = await serve(kit.make_engine_model(context_length=context_length))
        body = await responses(served).create(LONG, truncation="auto", max_output_tokens=16)
        dropped.append(body.get("truncated_items", 0))
    assert dropped == sorted(dropped, reverse=True)
    assert dropped[0] > dropped[2] > dropped[-1] == 0


async def test_nothing_is_left_out_of_what_fits(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    client = responses(await serve(kit.make_engine_model()))
    body = await client.create(LONG, truncation="auto")
    assert "truncated_items" not in body


async def test_the_last_turn_is_never_left_out(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    client = responses(await serve(kit.make_engine_model(context_length=16)))
    error = await client.refused([*LONG, {"role": "user", "content": "w " * 99}], truncation="auto")
    assert error["code"] == "context_length_exceeded"


async def test_a_stored_conversation_goes_on_beyond_its_context(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    served = await serve(kit.make_engine_model(context_length=64))
    client = responses(served)
    previous = None
    for number in range(8):
        body = await client.create(
            f"question {number} " + "word " * 4, truncation="auto", previous_response_id=previous
        )
        previous = body["id"]
    assert body["truncated_items"] > 0
    assert body["output"][0]["content"][0]["text"].startswith("question 7 ")
