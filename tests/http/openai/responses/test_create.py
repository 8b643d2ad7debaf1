"""POST /v1/responses: what comes back, whole and as events, valid by both publications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from schemas import response_faults

from jarvis_core.errors import ContextLengthExceeded, EngineDied, QueueFull
from jarvis_core.structs import ChatRequest, Delta, TokenLogprob

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
Make = Callable[..., Any]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# -- text ------------------------------------------------------------------------------------


async def test_text_becomes_a_message(serve: Serve, responses: Make) -> None:
    body = await responses(await serve()).create("hello there")
    assert body["status"] == "completed"
    assert body["completed_at"] >= body["created_at"]
    (item,) = body["output"]
    assert item["role"] == "assistant"
    assert item["content"] == [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": "hello there"}
    ]
    assert body["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9,
    }


async def test_a_streamed_message_is_told_event_by_event(serve: Serve, responses: Make) -> None:
    events = await responses(await serve()).stream("hello there")
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
        "[DONE]",
    ]
    assert events[0]["response"]["usage"]["input_tokens"] == 7
    assert "".join(e["delta"] for e in events[4:6]) == events[6]["text"] == "hello there"
    assert events[9]["response"]["output"] == [events[8]["item"]]


async def test_stream_and_whole_say_the_same(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    said = script.says(
        Delta(reasoning="Hm. "),
        Delta(reasoning="Well."),
        Delta(content="Let me "),
        Delta(content="look."),
        *script.calls("weather", '{"city"', ': "Oslo"}'),
        *script.calls("weather", "{}", index=1, id="call_2"),
        Delta(content="So."),
    )
    client = responses(await serve(script.model(said)))
    whole = await client.create("x", tools=[script.TOOL])
    streamed = (await client.stream("x", tools=[script.TOOL]))[-2]["response"]

    def without_ids(body: dict[str, Any]) -> list[dict[str, Any]]:
        return [{k: v for k, v in item.items() if k != "id"} for item in body["output"]]

    assert without_ids(whole) == without_ids(streamed)
    assert [item["type"] for item in whole["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
        "message",
    ]


async def test_an_answer_without_anything_is_an_empty_message(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    client = responses(await serve(script.model(script.says())))
    assert (await client.create())["output"][0]["content"][0]["text"] == ""
    assert types(await client.stream())[2:5] == [
        "output_item.added",
        "content_part.added",
        "output_text.done",
    ]


async def test_running_out_of_tokens_is_incomplete(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    cut = script.says(Delta(content="Once upon"), finish_reason="length")
    client = responses(await serve(script.model(cut)))
    body = await client.create("x", max_output_tokens=16)
    assert (body["status"], body["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert body["output"][0]["status"] == "incomplete"
    assert body["completed_at"] is None
    assert types(await client.stream("x", max_output_tokens=16))[-2:] == ["incomplete", "[DONE]"]


async def test_logprobs_are_in_deltas_and_in_the_whole(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    likely = TokenLogprob(token_id=1, token="a", logprob=-0.5, data=b"a")
    chosen = TokenLogprob(token_id=1, token="a", logprob=-0.5, data=b"a", top=(likely,))
    model = script.model(script.says(Delta(content="a", logprobs=(chosen,))))
    client = responses(await serve(model))
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    expected = {**token, "top_logprobs": [token]}
    body = await client.create("x", **wanted)
    assert body["output"][0]["content"][0]["logprobs"] == [expected]
    assert model.requests[0].logprobs == 1
    delta = next(e for e in await client.stream("x", **wanted) if "delta" in e)
    assert delta["logprobs"] == [expected]


# -- calls and reasoning ---------------------------------------------------------------------


async def test_a_call_is_an_item_whose_arguments_stream(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model(script.says(*script.calls("weather", '{"city"', ': "Oslo"}')))
    events = await responses(await serve(model)).stream("x", tools=[script.TOOL])
    assert types(events)[2:-2] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    item = events[-2]["response"]["output"][0]
    assert (item["name"], item["call_id"]) == ("weather", "call_1")
    assert item["arguments"] == '{"city": "Oslo"}'


async def test_a_call_in_a_namespace_has_two_names(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model(script.says(*script.calls("mcp__files__read", "{}")))
    client = responses(await serve(model))
    events = await client.stream("x", tools=[script.TOOL, script.FILES])
    items = [event["item"] for event in events if "item" in event]
    items += events[-2]["response"]["output"]
    assert [(item["namespace"], item["name"]) for item in items] == [("mcp__files", "read")] * 3
    done = next(event for event in events if event["type"].endswith("arguments.done"))
    assert done["name"] == "read"
    assert [tool.spec["function"] for tool in model.requests[0].tools] == [
        {key: value for key, value in script.TOOL.items() if key != "type"},
        {
            "name": "mcp__files__read",
            "description": "mcp__files: Files of this machine\n\nRead a file",
        },
        {"name": "mcp__files__list", "parameters": {"type": "object"}},
    ]


async def test_reasoning_comes_whole_as_content_of_its_item(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model(
        script.says(Delta(reasoning="Hm, "), Delta(reasoning="yes."), Delta(content="Yes."))
    )
    client = responses(await serve(model))
    events = await client.stream("x")
    assert types(events)[2:6] == [
        "output_item.added",
        "content_part.added",
        "content_part.done",
        "output_item.done",
    ]
    assert events[-2]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    thought = events[-2]["response"]["output"][0]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm, yes."}]
    assert thought["summary"] == []


@pytest.mark.parametrize("parameter", ["summary", "generate_summary"])
async def test_reasoning_is_told_as_it_comes_where_that_is_asked_for(
    parameter: str, serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model(
        script.says(Delta(reasoning="Hm, "), Delta(reasoning="yes."), Delta(content="Yes."))
    )
    client = responses(await serve(model))
    events = await client.stream("x", reasoning={"effort": "low", parameter: "auto"})
    assert types(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    response = events[-2]["response"]
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm, yes."}]
    assert response["reasoning"] == {"effort": "low", "summary": "auto"}
    assert model.requests[0].reasoning_effort == "low"


# -- what goes wrong -------------------------------------------------------------------------


async def test_an_error_before_the_first_event_is_an_http_error(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    answer = await responses(await serve(script.model(refusal=QueueFull("full")))).post(
        "x", stream=True
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "queue_full"


async def test_an_error_in_a_stream_is_told_in_both_dialects(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    async def dies(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        yield [Delta(content="Once")]
        raise EngineDied("the engine died")

    served = await serve(script.model(dies))
    client = responses(served)
    events = await client.stream("x")
    assert types(events)[-3:] == ["output_item.done", "failed", "error"]
    response, error = events[-2]["response"], events[-1]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "the engine died"}
    assert response["output"][0]["status"] == "incomplete"
    assert (error["code"], error["error"]["code"]) == ("engine_died", "engine_died")
    assert await client.get(response["id"]) == response


@pytest.mark.parametrize(
    ("chats", "own"),
    [
        ("messages[3].content[0]", "input"),
        ("reasoning_effort", "reasoning.effort"),
        ("response_format", "text.format"),
        ("tools[1].function.strict", "tools[1].strict"),
        ("tool_choice", "tool_choice"),
    ],
)
async def test_an_error_of_the_host_names_this_routes_parameters(
    serve: Serve, responses: Make, script: SimpleNamespace, chats: str, own: str
) -> None:
    refusal = ContextLengthExceeded(f"the messages: {chats} is too long", param=chats)
    error = await responses(await serve(script.model(refusal=refusal))).refused()
    assert error["code"] == "context_length_exceeded"
    assert (error["message"], error["param"]) == (f"the messages: {own} is too long", own)


@pytest.mark.parametrize("name", ["messages", "reasoning_effort", "response_format"])
async def test_an_error_about_what_the_client_has_sent_names_that(
    serve: Serve, responses: Make, name: str
) -> None:
    error = await responses(await serve()).refused(**{name: "x"})
    assert error["param"] == name
    assert f"cannot honour {name}: send" in error["message"]


async def test_every_parameter_is_echoed_validly(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "top_logprobs": 2,
        "tools": [script.TOOL, {"type": "function", "name": "bare", "parameters": None}],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "bare"}],
        },
        "parallel_tool_calls": False,
        "truncation": "disabled",
        "metadata": {"a": "b"},
        "user": "me",
        "safety_identifier": "me",
        "prompt_cache_key": "key",
        "service_tier": "auto",
        "max_tool_calls": 3,
        "reasoning": {"effort": "high", "summary": "detailed"},
    }
    body = await responses(await serve()).create("x", **asked)
    same = asked.keys() - {"tools", "service_tier"}
    assert {key: body[key] for key in same} == {key: asked[key] for key in same}
    assert body["tools"][1] == {
        "type": "function",
        "name": "bare",
        "description": None,
        "parameters": None,
        "strict": False,
    }
    assert body["service_tier"] == "default"


async def test_a_schema_is_enforced_and_echoed_validly(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    text = {"format": {"type": "json_schema", "name": "thing", "schema": schema, "strict": True}}
    client = responses(await serve(model))
    body = await client.create("x", text=text)
    assert model.requests[0].constraint.kind == "json_schema"
    assert body["text"]["format"]["schema"] == schema
    assert body["text"]["format"]["name"] == "thing"
    again = await client.create("x", text=body["text"])
    assert again["text"] == body["text"]
    assert model.requests[1].constraint == model.requests[0].constraint


async def test_the_schemas_find_faults(serve: Serve, responses: Make) -> None:
    body = await responses(await serve()).create()
    assert response_faults({**body, "usage": None}) != []
    assert response_faults({**body, "store": None}) != []
    assert response_faults({**body, "output": [{"type": "message"}]}) != []
