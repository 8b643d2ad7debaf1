"""The openai SDK against the server: base URL changed, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest

from jarvis_core.errors import EngineDied, QueueFull
from jarvis_core.structs import ChatRequest, Delta, ToolCallDelta, Usage

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "hello there"}]
USAGE = Usage(prompt_tokens=7, completion_tokens=2)


@pytest.fixture
async def sdk() -> AsyncIterator[Callable[..., openai.AsyncOpenAI]]:
    """Makes clients of a server."""
    made: list[openai.AsyncOpenAI] = []

    def make(served: Any, key: str = "k", **options: Any) -> openai.AsyncOpenAI:
        made.append(
            openai.AsyncOpenAI(
                base_url=f"{served.url}/v1",
                api_key=key,
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
                **options,
            )
        )
        return made[-1]

    yield make
    for client in made:
        await client.close()


Sdk = Callable[..., openai.AsyncOpenAI]
Serve = Callable[..., Awaitable[Any]]


async def test_a_whole_chat(serve: Serve, sdk: Sdk) -> None:
    answer = await sdk(await serve()).chat.completions.create(
        model="tiny", messages=USER, temperature=0, max_completion_tokens=10, seed=1, stop=["x"]
    )
    assert answer.choices[0].message.content == "hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9


async def test_a_streamed_chat(serve: Serve, sdk: Sdk) -> None:
    stream = await sdk(await serve()).chat.completions.create(
        model="tiny", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "hello there"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 7


async def test_the_stream_helper_accumulates(serve: Serve, sdk: Sdk) -> None:
    async with sdk(await serve()).chat.completions.stream(model="tiny", messages=USER) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "hello there"


async def test_sixteen_at_once(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())

    async def ask(text: str) -> str | None:
        messages: Any = [{"role": "user", "content": text}]
        answer = await client.chat.completions.create(model="tiny", messages=messages)
        return answer.choices[0].message.content

    texts = [f"number {i}" for i in range(16)]
    assert await asyncio.gather(*map(ask, texts)) == texts


async def test_tools_round_trip(serve: Serve, sdk: Sdk, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> AsyncIterator[Any]:
        if request.messages[-1].role == "tool":
            yield [Delta(content="done", finish_reason="stop", usage=USAGE)]
            return
        call = ToolCallDelta(index=0, id="call_1", name="look", arguments='{"at":"sky"}')
        yield [Delta(tool_calls=(call,)), Delta(finish_reason="tool_calls", usage=USAGE)]

    model.script = script
    client = sdk(await serve(model))
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    asked = await client.chat.completions.create(model="tiny", messages=USER, tools=tools)
    message = asked.choices[0].message
    assert message.tool_calls is not None
    history = [
        *USER,
        message.model_dump(),
        {"role": "tool", "tool_call_id": "call_1", "content": "blue"},
    ]
    answer = await client.chat.completions.create(model="tiny", messages=history, tools=tools)
    assert answer.choices[0].message.content == "done"
    sent = model.requests[-1].messages
    assert sent[1].tool_calls[0].arguments == '{"at":"sky"}'
    assert sent[2].tool_call_id == "call_1"


async def test_models(serve: Serve, sdk: Sdk) -> None:
    client = sdk(await serve())
    assert [model.id async for model in client.models.list()] == ["tiny"]
    assert (await client.models.retrieve("org/tiny")).id == "tiny"


async def test_errors_are_the_sdks_own(serve: Serve, sdk: Sdk) -> None:
    served = await serve(api_key="k")
    client = sdk(served)
    with pytest.raises(openai.AuthenticationError) as unknown:
        await sdk(served, key="wrong").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nope", messages=USER)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="tiny", messages=USER, temperature=9)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.PermissionDeniedError):
        await client.post("/models/tiny/load", cast_to=object)
    served.catalogue.lease_error = QueueFull("full")
    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model="tiny", messages=USER)
    assert full.value.status_code == 503


async def test_a_stream_that_fails_raises(serve: Serve, sdk: Sdk, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> AsyncIterator[Any]:
        yield [Delta(content="a")]
        raise EngineDied("it died")

    model.script = script
    client = sdk(await serve(model))
    stream = await client.chat.completions.create(model="tiny", messages=USER, stream=True)
    said = []

    async def read() -> None:
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError, match="it died"):
        await read()
    assert said == ["", "a"]


async def test_embeddings_come_as_base64_which_the_sdk_unpacks(
    serve: Serve, sdk: Sdk, kit: Any
) -> None:
    client = sdk(await serve(kit.make_engine_model()))
    packed = await client.embeddings.create(model="tiny", input=["a cat", "law"])
    plain = await client.embeddings.create(
        model="tiny", input=["a cat", "law"], encoding_format="float"
    )

    assert [len(item.embedding) for item in packed.data] == [8, 8]
    assert [i.embedding for i in packed.data] == [i.embedding for i in plain.data]
    assert packed.usage.total_tokens == 3


async def test_completions_whole_and_streamed(serve: Serve, sdk: Sdk, kit: Any) -> None:
    client = sdk(await serve(kit.make_engine_model()))
    whole = await client.completions.create(model="tiny", prompt=["a b", "c"], logprobs=1)
    stream = await client.completions.create(model="tiny", prompt=["a b", "c"], stream=True)
    said = ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.text

    assert [choice.text for choice in whole.choices] == said == ["a b", "c"]
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.tokens == ["a", " b"]


async def test_a_parameter_that_cannot_be_honoured_is_a_bad_request(
    serve: Serve, sdk: Sdk, kit: Any
) -> None:
    client = sdk(await serve(kit.make_engine_model()))
    with pytest.raises(openai.BadRequestError) as raised:
        await client.completions.create(model="tiny", prompt="a", suffix="b")

    assert (raised.value.param, raised.value.code) == ("suffix", "unsupported_parameter")
