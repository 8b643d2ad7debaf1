"""openai-python, in whichever version is installed: the base URL changed, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

USER: Any = [{"role": "user", "content": "Say something about Rome."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Colour(BaseModel):
    name: Literal["red", "blue"]
    warm: bool


@pytest.fixture(scope="module")
def client(base_url: str, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        yield client


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"tiny", "vectors"}
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    arguments: Any = {"model": "tiny", "messages": USER, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**arguments)
    chunks = list(
        client.chat.completions.create(
            **arguments, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole.choices[0].message.content
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 24
    assert {c.id for c in chunks} == {chunks[0].id}


def test_the_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny", messages=USER, extra_body={"guided_choice": ["yes", "no"]}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert kinds[-1] == "content.done"
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content in ("yes", "no")


def test_several_answers_with_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=USER, n=2, seed=3, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_parse_gives_an_object_of_the_class(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="tiny", messages=USER, response_format=Colour, max_tokens=120, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


def test_parse_says_when_the_answer_was_cut(client: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model="tiny", messages=USER, response_format=Colour, max_tokens=2
        )


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_call_is_made_whole_and_streamed(client: openai.OpenAI, choice: Any) -> None:
    arguments: Any = {
        "model": "tiny",
        "messages": USER,
        "tools": [WEATHER],
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 100,
    }
    answer = client.chat.completions.create(**arguments).choices[0]
    assert answer.finish_reason in ("tool_calls", "stop")
    assert answer.message.tool_calls
    (call,) = answer.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")

    with client.chat.completions.stream(**arguments) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.tool_calls
    assert final.tool_calls[0].function.arguments == call.function.arguments


def test_results_of_tools_are_taken(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    messages: Any = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = client.chat.completions.create(
        model="tiny", messages=messages, tools=[WEATHER], max_tokens=4
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1


def test_completions_echo_their_prompt(client: openai.OpenAI) -> None:
    prompts = ["One two", "Three"]
    answer = client.completions.create(model="tiny", prompt=prompts, echo=True, max_tokens=3)
    assert [
        choice.text[: len(prompt)] for choice, prompt in zip(answer.choices, prompts, strict=True)
    ] == prompts


def test_embeddings_are_normalized_and_the_same_however_they_travel(
    client: openai.OpenAI,
) -> None:
    packed = client.embeddings.create(model="vectors", input=["Rome", "Oslo"])
    plain = client.embeddings.create(model="vectors", input="Rome", encoding_format="float")
    assert len(packed.data) == 2
    vector = packed.data[0].embedding
    assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-3)
    assert vector == pytest.approx(plain.data[0].embedding, abs=1e-2)
    assert packed.usage.prompt_tokens > 0


def test_a_conversation_of_responses_goes_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="Hello.", max_output_tokens=8)
    second = client.responses.create(
        model="tiny", input="Go on.", previous_response_id=first.id, max_output_tokens=8
    )
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)


def test_the_events_of_a_response(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="tiny", input="A colour?", text_format=Colour, max_output_tokens=120, temperature=0
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "response.output_text.delta" in kinds
    assert kinds[-1] == "response.completed"
    assert isinstance(final.output_parsed, Colour)


def test_a_response_that_is_cut_says_so(client: openai.OpenAI) -> None:
    events = list(
        client.responses.create(
            model="tiny", input="Tell of Rome.", max_output_tokens=4, temperature=0, stream=True
        )
    )
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details is not None
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_a_response_calls_a_function_and_takes_its_result(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "strict": True, **WEATHER["function"]}
    arguments: Any = {"model": "tiny", "tools": [tool], "max_output_tokens": 100, "temperature": 0}
    asked = client.responses.create(
        input="The weather of Rome?", tool_choice="required", **arguments
    )
    (call,) = (item for item in asked.output if item.type == "function_call")
    assert call.name == "weather"
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")

    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    arguments["max_output_tokens"] = 4
    told = client.responses.create(
        input=[result], previous_response_id=asked.id, tool_choice="none", **arguments
    )
    assert told.output_text


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 9}, openai.BadRequestError, None),
        ({"max_tokens": 100_000}, openai.BadRequestError, "context_length_exceeded"),
        ({"tool_choice": "required"}, openai.BadRequestError, None),
    ],
)
def test_errors_are_those_of_the_sdk(
    client: openai.OpenAI, arguments: Any, error: type[openai.APIStatusError], code: str | None
) -> None:
    for stream in (False, True):
        with pytest.raises(error) as caught:
            client.chat.completions.create(
                **{"model": "tiny", "messages": USER, "stream": stream, **arguments}
            )
        assert caught.value.code == code


def test_a_wrong_key_is_refused(base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.anyio
async def test_the_async_client(base_url: str, key: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=USER, max_tokens=4, temperature=0, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "length"
