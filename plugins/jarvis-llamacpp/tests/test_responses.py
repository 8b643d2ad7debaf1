"""Responses of the small real model: conversations cost what is new, inside one key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from served import Server, serving

pytestmark = pytest.mark.anyio

STORY = (
    "Tell me more of the lighthouse keeper who found a map inside a bottle on the shore one "
    "morning after the great storm, and who had never left the island before. "
)


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    async with serving(tmp_path_factory.mktemp("served")) as serve:
        yield await serve("", JARVIS_API_KEY="one,two", JARVIS_LLAMACPP_N_THREADS="1")


@pytest.fixture
async def clients(server: Server) -> AsyncIterator[tuple[AsyncOpenAI, AsyncOpenAI]]:
    """A client for each key."""
    url = f"{server.url}/v1"
    async with (
        AsyncOpenAI(base_url=url, api_key="one", max_retries=0, timeout=60) as one,
        AsyncOpenAI(base_url=url, api_key="two", max_retries=0, timeout=60) as two,
    ):
        yield one, two


async def respond(client: AsyncOpenAI, text: Any, **fields: Any) -> Any:
    return await client.responses.create(
        **({"model": "smollm2", "input": text, "temperature": 0, "max_output_tokens": 16} | fields)
    )


async def test_a_turn_computes_only_what_is_new(clients: tuple[AsyncOpenAI, AsyncOpenAI]) -> None:
    client, _ = clients
    before = await respond(client, STORY * 4, instructions="You tell stories.")
    for turn in range(3):
        question = f"And what happened on day {turn}?"
        after = await respond(
            client,
            question,
            instructions="You tell stories.",
            previous_response_id=before.id,
        )
        read = before.usage.input_tokens + before.usage.output_tokens
        cached = after.usage.input_tokens_details.cached_tokens
        # The last token of an answer is never read, and an answer that was cut has no end of turn.
        assert cached >= read - 2
        assert after.usage.input_tokens - cached < 40
        before = after
    assert before.usage.input_tokens_details.cached_tokens > 200


async def test_a_turn_reuses_nothing_of_another_key(
    clients: tuple[AsyncOpenAI, AsyncOpenAI],
) -> None:
    one, two = clients
    text = "Count the boats in the harbour. " + STORY * 2
    first = await respond(one, text)
    again = await respond(one, text)
    other = await respond(two, text)
    assert again.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 1
    assert other.usage.input_tokens_details.cached_tokens == 0
    assert other.usage.input_tokens == first.usage.input_tokens


async def test_a_stream_says_what_is_retrieved(clients: tuple[AsyncOpenAI, AsyncOpenAI]) -> None:
    client, _ = clients
    events = [event async for event in await respond(client, "Say hello.", stream=True)]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    final = events[-1].response
    assert "".join(deltas) == final.output_text
    assert final.output_text
    found = await client.responses.retrieve(final.id)
    assert found.output_text == final.output_text
    await client.responses.delete(final.id)


class Place(BaseModel):
    """Where something is."""

    city: str
    near_the_sea: bool


async def test_a_schema_is_obeyed(clients: tuple[AsyncOpenAI, AsyncOpenAI]) -> None:
    client, _ = clients
    parsed = await client.responses.parse(
        model="smollm2", input="Where is the Eiffel tower?", text_format=Place, temperature=0
    )
    assert isinstance(parsed.output_parsed, Place)


async def test_a_forced_function_is_called(
    clients: tuple[AsyncOpenAI, AsyncOpenAI],
) -> None:
    client, _ = clients
    tool: Any = {
        "type": "function",
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    called = await respond(
        client, "Is it raining?", tools=[tool], tool_choice="required", max_output_tokens=100
    )
    (call,) = called.output
    assert call.name == "weather"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    # This small model's template knows no tools: the call is told as the text that the model wrote.
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    told = await respond(
        client, [result], previous_response_id=called.id, tools=[tool], max_output_tokens=20
    )
    assert told.output_text
    assert told.usage is not None
    assert called.usage is not None
    assert told.usage.input_tokens > called.usage.input_tokens + 20  # the call, and its result
