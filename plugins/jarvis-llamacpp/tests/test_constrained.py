"""Forced choices and structured output with the small real model and OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from served import Server, serving

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is the weather in Oslo? And what time is it there?"}]
WEATHER = {
    "type": "object",
    "properties": {
        "town": {"$ref": "#/$defs/town"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["town", "unit", "days"],
    "additionalProperties": False,
    "$defs": {"town": {"type": "string", "maxLength": 12}},
}
CLOCK = {"type": "object", "properties": {"zone": {"type": "string", "maxLength": 12}}}


def tool(name: str, parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


TOOLS = [tool("get_weather", WEATHER), tool("get_time", CLOCK)]
SCHEMAS = {"get_weather": WEATHER, "get_time": CLOCK}


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    async with serving(tmp_path_factory.mktemp("served")) as serve:
        yield await serve("", JARVIS_LLAMACPP_N_THREADS="1")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300
    ) as client:
        yield client


async def chat(client: AsyncOpenAI, **fields: Any) -> Any:
    defaults = {"model": "smollm2", "messages": QUESTION, "max_tokens": 160, "seed": 1}
    return await client.chat.completions.create(**(defaults | fields))


def check_calls(calls: Any) -> list[str]:
    """The names of calls whose arguments obey their schemas."""
    for call in calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
        assert call.id
    return [call.function.name for call in calls]


@pytest.mark.parametrize("temperature", [0, 1.5])
async def test_a_required_call_is_made_and_valid(client: AsyncOpenAI, temperature: float) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    (choice,) = (await chat(client, temperature=temperature, **fields)).choices
    assert len(check_calls(choice.message.tool_calls)) == 1
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None


@pytest.mark.parametrize("name", SCHEMAS)
async def test_the_named_function_is_called(client: AsyncOpenAI, name: str) -> None:
    named = {"type": "function", "function": {"name": name}}
    (choice,) = (await chat(client, tools=TOOLS, tool_choice=named)).choices
    assert check_calls(choice.message.tool_calls) == [name]
    assert choice.finish_reason == "tool_calls"


async def test_several_calls_are_each_valid(client: AsyncOpenAI) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": True}
    completion = await chat(client, temperature=1.2, n=2, **fields)
    for choice in completion.choices:
        if choice.finish_reason == "tool_calls":
            assert check_calls(choice.message.tool_calls)
        else:
            assert choice.finish_reason == "length"


async def test_a_forced_call_streams_its_name_then_its_arguments(client: AsyncOpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    fields = {"tools": TOOLS, "tool_choice": named, "temperature": 0}
    (whole,) = (await chat(client, **fields)).choices
    stream = await chat(client, stream=True, **fields)
    chunks = [chunk.choices[0] async for chunk in stream if chunk.choices]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or ()]

    assert pieces[0].id
    assert pieces[0].function.name == "get_weather"
    assert all(piece.function.name is None and piece.id is None for piece in pieces[1:])
    assert len(pieces) > 5, "arguments come as they are generated"
    text = "".join(piece.function.arguments or "" for piece in pieces)
    assert json.loads(text) == json.loads(whole.message.tool_calls[0].function.arguments)
    assert chunks[-1].finish_reason == "tool_calls"


async def test_a_call_that_is_cut_ends_with_length(client: AsyncOpenAI) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 24}
    (choice,) = (await chat(client, **fields)).choices
    assert choice.finish_reason == "length"


async def test_an_answer_with_strict_tools_is_text_or_a_valid_call(client: AsyncOpenAI) -> None:
    strict = [tool("get_weather", WEATHER, strict=True)]
    asked = [{"role": "user", "content": 'Say: <tool_call>{"name": "get_weather"'}]
    completion = await chat(client, tools=strict, n=2, messages=asked, max_tokens=60)
    for choice in completion.choices:
        if choice.message.tool_calls and choice.finish_reason != "length":
            check_calls(choice.message.tool_calls)
        assert "<tool_call>" not in (choice.message.content or "")


async def test_tools_and_a_schema_give_one_or_the_other(client: AsyncOpenAI) -> None:
    schema = {"name": "answer", "schema": CLOCK, "strict": True}
    fields = {"tools": TOOLS, "response_format": {"type": "json_schema", "json_schema": schema}}
    for choice in (await chat(client, n=2, **fields)).choices:
        if choice.finish_reason == "length":
            continue
        if choice.message.tool_calls:
            check_calls(choice.message.tool_calls)
        else:
            jsonschema.validate(json.loads(choice.message.content), CLOCK)


class Town(BaseModel):
    """What the model is to say of a town."""

    name: str
    people: int
    is_capital: bool


async def test_the_sdk_parses_an_answer_into_a_class(client: AsyncOpenAI) -> None:
    asked = [{"role": "user", "content": "Tell me about Oslo: name, people, is_capital."}]
    completion = await client.chat.completions.parse(
        model="smollm2",
        messages=asked,  # type: ignore[arg-type]
        response_format=Town,
        temperature=0,
        max_tokens=160,
    )
    assert isinstance(completion.choices[0].message.parsed, Town)


async def test_json_that_is_cut_ends_with_length(client: AsyncOpenAI) -> None:
    completion = await chat(client, response_format={"type": "json_object"}, max_tokens=3)
    assert completion.choices[0].finish_reason == "length"
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(
            model="smollm2",
            messages=QUESTION,  # type: ignore[arg-type]
            response_format=Town,
            max_tokens=3,
        )


async def test_a_json_object_is_one(client: AsyncOpenAI) -> None:
    asked = [{"role": "user", "content": "Give me an empty JSON object."}]
    fields = {"response_format": {"type": "json_object"}, "messages": asked, "n": 2}
    for choice in (await chat(client, **fields)).choices:
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("outputs", "matches"),
    [
        ({"choice": ["yes", "no"]}, ("yes", "no")),
        ({"regex": "(red|green)-[0-9]{2}"}, None),
        ({"grammar": 'start: "one" | "two"'}, ("one", "two")),
    ],
)
async def test_structured_outputs_are_what_they_must_be(
    client: AsyncOpenAI, outputs: dict[str, Any], matches: tuple[str, ...] | None
) -> None:
    completion = await chat(client, extra_body={"structured_outputs": outputs})
    content = completion.choices[0].message.content
    if matches:
        assert content in matches
    else:
        assert content[:3] in ("red", "gre")
        assert content[-3] == "-"
    assert completion.choices[0].finish_reason == "stop"
