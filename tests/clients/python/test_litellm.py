"""litellm, told of an OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

USER: Any = [{"role": "user", "content": "Say something about Rome."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def where(base_url: str, key: str) -> dict[str, Any]:
    return {"api_base": base_url, "api_key": key, "max_retries": 0}


def test_a_stream_says_what_the_whole_answer_says(where: dict[str, Any]) -> None:
    arguments = {"model": "openai/tiny", "messages": USER, "temperature": 0, "max_tokens": 12}
    whole: Any = litellm.completion(**arguments, **where)
    chunks: list[Any] = list(litellm.completion(**arguments, **where, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content
    assert whole.usage.completion_tokens == 12
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_a_forced_call_is_made_whole_and_streamed(where: dict[str, Any]) -> None:
    arguments = {
        "model": "openai/tiny",
        "messages": USER,
        "tools": [WEATHER],
        "tool_choice": "required",
        "temperature": 0,
        "max_tokens": 100,
    }
    whole: Any = litellm.completion(**arguments, **where)
    chunks: list[Any] = list(litellm.completion(**arguments, **where, stream=True))
    streamed: Any = litellm.stream_chunk_builder(chunks)
    for answer in (whole, streamed):
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


def test_embeddings(where: dict[str, Any]) -> None:
    answer: Any = litellm.embedding(
        model="openai/vectors", input=["Rome", "Oslo"], encoding_format="float", **where
    )
    assert len(answer.data) == 2
    assert sum(x * x for x in answer.data[0]["embedding"]) == pytest.approx(1, abs=1e-3)


def test_responses(where: dict[str, Any]) -> None:
    answer: Any = litellm.responses(
        model="openai/tiny", input="Tell of Rome.", max_output_tokens=4, temperature=0, **where
    )
    assert answer.status == "incomplete"
    assert answer.output[0].content[0].text


def test_errors_are_those_of_litellm(where: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/nobody", messages=USER, **where)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model="openai/tiny", messages=USER, max_tokens=100_000, **where)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(model="openai/tiny", messages=USER, **{**where, "api_key": "wrong"})
