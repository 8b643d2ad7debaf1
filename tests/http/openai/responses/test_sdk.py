"""The openai SDK's helpers for responses: base URL changed, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from jarvis_core.errors import EngineDied
from jarvis_core.structs import ChatRequest, Delta

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
Sdk = Callable[[Any], openai.AsyncOpenAI]


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    """Makes clients of a server."""
    made: list[openai.AsyncOpenAI] = []

    def make(served: Any) -> openai.AsyncOpenAI:
        made.append(
            openai.AsyncOpenAI(
                base_url=f"{served.url}/v1",
                api_key="k",
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            )
        )
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def test_create_retrieve_list_and_delete(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())
    made = await client.responses.create(model="tiny", input="hello there", metadata={"a": "b"})
    assert made.output_text == "hello there"
    assert made.usage is not None
    assert made.usage.input_tokens_details.cached_tokens == 3
    found = await client.responses.retrieve(made.id)
    assert found.output == made.output
    items = [item async for item in client.responses.input_items.list(made.id, limit=1)]
    assert [item.type for item in items] == ["message"]
    told = await client.responses.retrieve(made.id, stream=True)
    assert [event.type async for event in told][-1] == "response.completed"
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_conversation_goes_on(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    client = sdk(served)
    first = await client.responses.create(model="tiny", input="one")
    await client.responses.create(model="tiny", input="two", previous_response_id=first.id)
    assert [m.content for m in served.model.requests[-1].messages] == ["one", "one", "two"]


async def test_tokens_are_counted_before_they_are_sent(
    serve: Serve, sdk: Sdk, kit: SimpleNamespace
) -> None:
    client = sdk(await serve(kit.make_engine_model()))
    first = await client.responses.create(model="tiny", input="one two")
    counted = await client.responses.input_tokens.count(
        model="tiny", input="three", previous_response_id=first.id
    )
    second = await client.responses.create(
        model="tiny", input="three", previous_response_id=first.id
    )
    assert second.usage is not None
    assert counted.input_tokens == second.usage.input_tokens
    assert counted.object == "response.input_tokens"


async def test_pages_are_followed(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())
    sent: Any = [{"role": "user", "content": str(i)} for i in range(7)]
    made = await client.responses.create(model="tiny", input=sent)
    pages = client.responses.input_items.list(made.id, limit=3, order="asc")
    texts = [item.content[0].text async for item in pages]  # type: ignore[union-attr]
    assert texts == [str(i) for i in range(7)]


async def test_the_stream_helper_accumulates(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())
    async with client.responses.stream(model="tiny", input="hello there") as stream:
        seen = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert seen[0] == "response.created"
    assert seen[-1] == "response.completed"
    assert final.output_text == "hello there"


class Weather(BaseModel):
    """What a question is about."""

    city: str
    days: int


async def test_parse_gives_the_type_that_was_asked_for(
    serve: Serve, sdk: Sdk, script: SimpleNamespace
) -> None:
    model = script.model(
        script.says(Delta(content='{"city": "Oslo", '), Delta(content='"days":3}'))
    )
    client = sdk(await serve(model))
    parsed = await client.responses.parse(model="tiny", input="x", text_format=Weather)
    assert parsed.output_parsed == Weather(city="Oslo", days=3)
    assert model.requests[0].constraint is not None
    async with client.responses.stream(model="tiny", input="x", text_format=Weather) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == Weather(city="Oslo", days=3)


async def test_functions_are_called_and_answered(
    serve: Serve, sdk: Sdk, script: SimpleNamespace
) -> None:
    model = script.model(script.says(*script.calls("Weather", '{"city": "Oslo",', '"days": 3}')))
    client = sdk(await serve(model))
    tools: Any = [openai.pydantic_function_tool(Weather)]
    tools = [{"type": "function", **tools[0]["function"]}]
    async with client.responses.stream(model="tiny", input="x", tools=tools) as stream:
        final = await stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call"
    assert call.parsed_arguments == {"city": "Oslo", "days": 3}
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    await client.responses.create(
        model="tiny", input=output, previous_response_id=final.id, tools=tools
    )
    assert [m.role for m in model.requests[-1].messages] == ["user", "assistant", "tool"]


async def test_an_error_in_a_stream_is_raised(
    serve: Serve, sdk: Sdk, script: SimpleNamespace
) -> None:
    async def dies(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        yield [Delta(content="Once")]
        raise EngineDied("the engine died")

    client = sdk(await serve(script.model(dies)))
    stream = await client.responses.create(model="tiny", input="x", stream=True)
    seen = []
    with pytest.raises(openai.APIError, match="the engine died"):
        async for event in stream:
            seen.append(event.type)
    assert seen[-1] == "response.failed"


async def test_what_is_refused_is_an_exception_with_its_parameter(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="tiny", input="x", background=True)
    assert refused.value.param == "background"
    made = await client.responses.create(model="tiny", input="x")
    with pytest.raises(openai.BadRequestError, match="in the background"):
        await client.responses.cancel(made.id)
