"""The anthropic SDK: the base URL changed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

USER: Any = [{"role": "user", "content": "What is the weather of Rome?"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}

# Version 2 of the SDK has no parameter for it.
COLD = {"temperature": 0}


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0) as client:
        yield client


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_stream_says_what_the_whole_answer_says(client: anthropic.Anthropic) -> None:
    arguments: Any = {
        "model": "tiny",
        "system": "Be short.",
        "messages": USER,
        "max_tokens": 12,
        "extra_body": COLD,
    }
    whole = client.messages.create(**arguments)
    with client.messages.stream(**arguments) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == text_of(final) == text_of(whole)
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    assert final.usage.output_tokens == whole.usage.output_tokens == 12


def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="tiny", messages=USER)
    used = client.messages.create(model="tiny", messages=USER, max_tokens=1).usage
    cached = used.cache_read_input_tokens or 0
    assert counted.input_tokens == used.input_tokens + cached


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_call_is_made_whole_and_streamed(client: anthropic.Anthropic, choice: Any) -> None:
    arguments: Any = {
        "model": "tiny",
        "messages": USER,
        "tools": [WEATHER],
        "tool_choice": choice,
        "max_tokens": 100,
        "extra_body": COLD,
    }
    whole = client.messages.create(**arguments)
    with client.messages.stream(**arguments) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        (call,) = (block for block in message.content if block.type == "tool_use")
        assert call.name == "weather"
        assert call.input["city"] in ("Rome", "Oslo")


def test_results_of_tools_are_taken(client: anthropic.Anthropic) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    messages: Any = [
        *USER,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    answer = client.messages.create(model="tiny", messages=messages, tools=[WEATHER], max_tokens=4)
    assert answer.usage.output_tokens >= 1


def test_a_stop_sequence_ends_the_answer_and_is_named(client: anthropic.Anthropic) -> None:
    arguments: Any = {"model": "tiny", "messages": USER, "max_tokens": 12, "extra_body": COLD}
    whole = text_of(client.messages.create(**arguments))
    word = whole.split()[3]
    cut = client.messages.create(stop_sequences=[word], **arguments)
    assert cut.stop_reason == "stop_sequence"
    assert cut.stop_sequence == word
    assert text_of(cut) == whole[: whole.index(word)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError),
        ({"extra_body": {"temperature": 9}}, anthropic.BadRequestError),
        # Without a timeout of its own the SDK refuses a long answer that is not streamed.
        ({"max_tokens": 100_000, "timeout": 60}, anthropic.BadRequestError),
    ],
)
def test_errors_are_those_of_the_sdk(
    client: anthropic.Anthropic, arguments: Any, error: type[anthropic.APIStatusError]
) -> None:
    for stream in (False, True):
        with pytest.raises(error) as caught:
            client.messages.create(
                **{"model": "tiny", "messages": USER, "max_tokens": 4, **arguments}, stream=stream
            )
        assert caught.value.body["type"] == "error"  # type: ignore[index]


def test_a_wrong_key_is_refused(server: Any) -> None:
    with (
        anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="tiny", messages=USER, max_tokens=4)


@pytest.mark.anyio
async def test_the_async_client(server: Any) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key=server.key) as client:
        stream = await client.messages.create(
            model="tiny", messages=USER, max_tokens=4, stream=True
        )
        kinds = [event.type async for event in stream]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
