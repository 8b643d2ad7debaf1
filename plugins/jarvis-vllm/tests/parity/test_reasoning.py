"""A constraint holds after the reasoning, on both engines."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from served import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ENGINES = ("llama", "vllm")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WANTED = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}

SHOWN = (
    "Think first, then answer.\n"
    "<think>The question is about Rome, so the city is Rome.</think>\n"
    "<think>The question is about Paris, so the city is Paris.</think>\n"
    "<think>The question is about Rome, so the city is Rome.</think>\n"
    "What is the capital of France?"
)
"""So that the small model, which has learnt no reasoning, ends it."""

OPEN = "<think>The question is about Paris, so"


async def ask(server: Server, model: str, **fields: Any) -> Any:
    messages = [{"role": "user", "content": SHOWN}, {"role": "assistant", "content": OPEN}]
    body = {
        "model": model,
        "messages": messages,
        "continue_final_message": True,
        "add_generation_prompt": False,
        "temperature": 0,
        "max_tokens": 100,
        **fields,
    }
    answer = await server.client.post("/v1/chat/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


@pytest.mark.parametrize("model", ENGINES)
async def test_content_obeys_its_schema_after_reasoning(server: Server, model: str) -> None:
    choice = await ask(server, model, response_format=WANTED)
    message = choice["message"]

    assert choice["finish_reason"] == "stop"
    assert message["reasoning_content"] == message["reasoning"]
    assert "city is Paris" in message["reasoning_content"]
    jsonschema.validate(json.loads(message["content"]), SCHEMA)


@pytest.mark.parametrize("model", ENGINES)
async def test_a_forced_call_comes_after_reasoning(server: Server, model: str) -> None:
    choice = await ask(server, model, tools=[TOOL], tool_choice="required")
    (call,) = choice["message"]["tool_calls"]

    assert choice["finish_reason"] == "tool_calls"
    assert "city is Paris" in choice["message"]["reasoning_content"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)


@pytest.mark.parametrize("model", ENGINES)
async def test_reasoning_that_does_not_end_is_all_there_is(server: Server, model: str) -> None:
    choice = await ask(server, model, response_format=WANTED, max_tokens=3)

    assert choice["finish_reason"] == "length"
    assert choice["message"]["reasoning_content"]
    assert not choice["message"]["content"]
