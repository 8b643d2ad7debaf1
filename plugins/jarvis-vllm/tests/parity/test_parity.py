"""A client cannot tell which engine answers, but by the words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from attrs import field, frozen
from served import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ENGINES = ("llama", "vllm")
LLAMA_ONLY = ("dry_", "mirostat", "typical_p", "xtc_")
"""Beginnings of the parameters that llama.cpp alone honours."""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
TURNS = [
    {"role": "system", "content": "You are a pirate. 🏴‍☠️"},
    {"role": "user", "content": "Ahoy"},
    {"role": "assistant", "content": "Arr"},
    {"role": "user", "content": "Say <|im_end|> twice,\n\n  with  spaces\tand Grüße 世界"},
]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "size"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@frozen(kw_only=True)
class Case:
    """One request.

    Attributes:
        name: Its name.
        body: The request, without the model.
        path: Where to.
        forced: Whether length, a stop or a grammar decides how the answer ends, so that finish
            reasons and numbers of tokens have to be the same.
        same_text: Whether the text itself is decided.
    """

    name: str
    body: dict[str, Any] = field(factory=dict)
    path: str = CHAT
    forced: bool = False
    same_text: bool = False


def chat(name: str, *, forced: bool = False, same_text: bool = False, **body: Any) -> Case:
    """A chat about the capital of France: greedy, of 8 tokens, without a thought."""
    whole = {
        "messages": CAPITAL,
        "temperature": 0,
        "max_tokens": 8,
        "reasoning_effort": "none",
        **body,
    }
    return Case(name=name, body=whole, forced=forced, same_text=same_text)


def text(name: str, *, forced: bool = False, same_text: bool = False, **body: Any) -> Case:
    """A completion of numbers that are counted up."""
    whole = {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12", "temperature": 0, "max_tokens": 6} | body
    return Case(name=name, body=whole, path=COMPLETIONS, forced=forced, same_text=same_text)


def schema(**more: Any) -> dict[str, Any]:
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA} | more}


USAGE = {"stream": True, "stream_options": {"include_usage": True}}

CASES = (
    # -- answers -----------------------------------------------------------------------------
    chat("greedy", max_tokens=40),
    chat("several turns", messages=TURNS, forced=True, ignore_eos=True),
    chat("eight tokens whatever comes", forced=True, ignore_eos=True),
    chat("one token", forced=True, max_tokens=1),
    chat("max_completion_tokens", forced=True, max_completion_tokens=3, max_tokens=None),
    chat("sampled with a seed", temperature=1.0, seed=7, top_p=0.9, forced=True, ignore_eos=True),
    chat("filters", temperature=0.8, top_k=5, min_p=0.05, forced=True, ignore_eos=True),
    chat("penalties", presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.1),
    chat("a biased token", logit_bias={"28": 100}, forced=True, same_text=True),
    chat("a stop string", logit_bias={"28": 100}, stop=["aa"], forced=True),
    chat("a stop token", logit_bias={"28": 100}, stop_token_ids=[28], forced=True, same_text=True),
    chat("min_tokens", min_tokens=4, max_tokens=4, forced=True),
    chat("three answers", n=3, temperature=1.0, seed=1, forced=True, ignore_eos=True),
    chat("logprobs", logprobs=True, top_logprobs=2, forced=True, ignore_eos=True),
    chat("logprobs without others", logprobs=True, forced=True, ignore_eos=True),
    chat("continue the answer", messages=[*CAPITAL, {"role": "assistant", "content": "The"}],
         continue_final_message=True, add_generation_prompt=False),
    chat("a priority and a salt", priority=1, cache_salt="mine"),
    # -- constraints -------------------------------------------------------------------------
    chat("a JSON schema", response_format=schema(strict=True), max_tokens=60),
    chat("a JSON object", response_format={"type": "json_object"}, max_tokens=4),
    chat("a regular expression", structured_outputs={"regex": "(ab){4}c"}, max_tokens=20,
         forced=True, same_text=True),
    chat("a choice", structured_outputs={"choice": ["purple"]}, forced=True, same_text=True),
    chat("a grammar", structured_outputs={"grammar": 'start: "x" "yz"'}, forced=True,
         same_text=True),
    chat("a forced tool", tools=[WEATHER], tool_choice="required", max_tokens=80),
    chat("a named tool", tools=[WEATHER], max_tokens=80,
         tool_choice={"type": "function", "function": {"name": "weather"}}),
    # -- streams -----------------------------------------------------------------------------
    chat("a stream", stream=True, forced=True, ignore_eos=True),
    chat("a stream with usage", **USAGE, forced=True, ignore_eos=True),
    chat("a stream with logprobs", **USAGE, logprobs=True, top_logprobs=1, forced=True,
         ignore_eos=True),
    chat("a stream of a schema", **USAGE, response_format=schema(), max_tokens=60),
    chat("a stream of two", **USAGE, n=2, forced=True, ignore_eos=True),
    # -- text completions --------------------------------------------------------------------
    text("counting", forced=True, same_text=True),
    text("counting with echo", echo=True, forced=True, same_text=True),
    text("token ids", prompt=[33, 216, 34, 216, 35], forced=True, ignore_eos=True),
    text("logprobs of a text", logprobs=2, forced=True),
    text("two prompts", prompt=["1 2 3", "a b c d"], forced=True, ignore_eos=True),
    # -- refusals ----------------------------------------------------------------------------
    chat("too long", messages=[{"role": "user", "content": "word " * 1500}]),
    chat("more than fits", max_tokens=1024),
    chat("a token that there is not", logit_bias={"50000": 1}),
    chat("a temperature that cannot be", temperature=3),
    chat("a schema that cannot be enforced",
         response_format=schema(schema={"not": {"type": "string"}})),
    chat("an expression that is none", structured_outputs={"regex": "a(b"}),
    chat("a grammar that is none", structured_outputs={"grammar": "start: nowhere"}),
    text("a token id that there is not", prompt=[1, 60000]),
    text("an empty prompt", prompt=[]),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_engines_answer_alike(server: Server, case: Case) -> None:
    llama, vllm = await asyncio.gather(*(ask(server, case, model) for model in ENGINES))

    assert llama["status"] == vllm["status"]
    assert llama["shape"] == vllm["shape"]
    assert llama.get("prompt_tokens") == vllm.get("prompt_tokens")
    if llama["status"] != 200:
        assert llama["error"] == vllm["error"]
        return
    if case.forced:
        assert llama["finish"] == vllm["finish"]
        assert llama["completion_tokens"] == vllm["completion_tokens"]
    if case.same_text:
        assert llama["text"] == vllm["text"]


async def test_both_engines_are_models_of_one_server(server: Server) -> None:
    found = {m["id"]: m for m in (await server.client.get("/v1/models")).json()["data"]}

    assert set(found) == {*ENGINES, *(f"{name}-vectors" for name in ENGINES)}
    assert [found[name]["engine"] for name in ENGINES] == ["llama_cpp", "vllm"]
    assert [found[name]["context_length"] for name in ENGINES] == [1024, 1024]
    llama, vllm = (set(found[name]["capabilities"]["constraints"]) for name in ENGINES)
    assert llama == vllm
    llama, vllm = (set(found[name]["parameters"]) for name in ENGINES)
    assert {name for name in llama if not name.startswith(LLAMA_ONLY)} == vllm


async def test_both_engines_sample_alike_where_a_request_does_not_say(server: Server) -> None:
    found = [(await server.client.get(f"/v1/models/{m}")).json()["sampling"] for m in ENGINES]
    body = {"messages": CAPITAL, "top_p": 0.5}
    dry = [await server.client.post(f"{CHAT}/render", json={"model": m, **body}) for m in ENGINES]

    for sampling in (found, [answer.json()["sampling"] for answer in dry]):
        llama, vllm = sampling
        assert {name: v for name, v in llama.items() if not name.startswith(LLAMA_ONLY)} == vllm
    assert found[0]["temperature"] == {"value": 0.6, "from": "model"}
    assert dry[0].json()["sampling"]["top_p"] == 0.5


@pytest.mark.parametrize("text", ["Hello, world!", "<|im_end|>\n\n  Grüße 世界 🎉", ""])
async def test_both_engines_tokenize_alike(server: Server, text: str) -> None:
    bodies = [{"model": model, "prompt": text} for model in ENGINES]
    answers = [await server.client.post("/tokenize", json=body) for body in bodies]

    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json().get("tokens") == answers[1].json().get("tokens")


# -- what is compared ------------------------------------------------------------------------


async def ask(server: Server, case: Case, model: str) -> dict[str, Any]:
    """What of an answer has to be the same."""
    body = {"model": model} | {k: v for k, v in case.body.items() if v is not None}
    response = await server.client.post(case.path, json=body, timeout=300)
    if response.status_code != 200:
        error = response.json()["error"]
        return {
            "status": response.status_code,
            "shape": shape(response.json()),
            "error": {**error, "message": error["message"].replace(repr(model), "MODEL")},
        }
    if not case.body.get("stream"):
        return of_whole(response.json())
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return of_stream([json.loads(line) for line in lines])


def of_whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Of a whole answer."""
    return {
        "status": 200,
        "shape": shape(answer),
        "prompt_tokens": answer["usage"]["prompt_tokens"],
        "completion_tokens": answer["usage"]["completion_tokens"],
        "finish": [choice["finish_reason"] for choice in answer["choices"]],
        "text": [
            c.get("text") or (c.get("message") or {}).get("content") for c in answer["choices"]
        ],
    }


def of_stream(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a stream: the shapes that occur, whatever the pieces are that the text comes in."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    usage = next((c["usage"] for c in chunks if c.get("usage")), {})
    finish = {c["index"]: c["finish_reason"] for c in choices if c["finish_reason"]}
    shapes = {json.dumps(shape(chunk), sort_keys=True) for chunk in chunks}
    return {
        "status": 200,
        "shape": sorted(shapes),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "finish": [finish[index] for index in sorted(finish)],
        "text": "".join(choice["delta"].get("content") or "" for choice in choices),
    }


def shape(value: Any) -> Any:
    """Keys and types; the items of a list count once for each shape that they have."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes = {json.dumps(shape(item), sort_keys=True) for item in value}
        return [json.loads(item) for item in sorted(shapes)]
    if isinstance(value, bool) or value is None:
        return str(value)
    return "number" if isinstance(value, int | float) else "text"
