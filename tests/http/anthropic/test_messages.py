"""The anthropic SDK against the server: base URL changed, nothing else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineDied,
    QueueFull,
    RateLimited,
    RequestError,
)
from jarvis_core.http.anthropic.answers import error_body
from jarvis_core.http.anthropic.request import read_messages
from jarvis_core.http.openai.wire import AssistantMessageBody
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import (
    ChatRequest,
    Delta,
    MediaPart,
    Message,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "hello there"}]
USAGE = Usage(prompt_tokens=7, completion_tokens=4, cached_tokens=3)
WEATHER: Any = {
    "name": "weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}

Sdk = Callable[..., anthropic.AsyncAnthropic]
Serve = Callable[..., Awaitable[Any]]


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    """Makes clients of a server."""
    made: list[anthropic.AsyncAnthropic] = []

    def make(served: Any, key: str = "k") -> anthropic.AsyncAnthropic:
        client = anthropic.DefaultAsyncHttpxClient(trust_env=False)
        made.append(
            anthropic.AsyncAnthropic(
                base_url=served.url, api_key=key, max_retries=0, http_client=client
            )
        )
        return made[-1]

    yield make
    for client in made:
        await client.close()


def says(*deltas: Delta) -> Any:
    """A model that says this."""

    async def script(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        for delta in deltas:
            yield [delta]

    return script


END = Delta(finish_reason="stop", usage=USAGE)
THINKS_AND_CALLS = (
    Delta(reasoning="Let me"),
    Delta(reasoning=" see."),
    Delta(content="I ask."),
    Delta(tool_calls=(ToolCallDelta(index=0, id="call_1", name="weather"),)),
    Delta(tool_calls=(ToolCallDelta(index=0, arguments='{"city":'),)),
    Delta(tool_calls=(ToolCallDelta(index=0, arguments='"Rome"}'),)),
    Delta(tool_calls=(ToolCallDelta(index=1, id="call_2", name="weather", arguments="{}"),)),
    Delta(finish_reason="tool_calls", usage=USAGE),
)


async def test_a_whole_answer(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    answer = await sdk(served).messages.create(
        model="tiny",
        max_tokens=9,
        system="Be kind.",
        messages=USER,
        stop_sequences=["END"],
        extra_body={"temperature": 0.5, "top_k": 4, "top_p": 0.9},
    )
    assert answer.content == [TextBlock(type="text", text="hello there")]
    assert (answer.role, answer.model, answer.type) == ("assistant", "tiny", "message")
    assert answer.id.startswith("msg_")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens == 4
    assert answer.usage.cache_read_input_tokens == 3
    assert answer.usage.output_tokens == 2
    (request,) = served.model.requests
    assert request.messages == (
        Message(role="system", content="Be kind."),
        Message(role="user", content="hello there"),
    )
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.stop) == (9, ("END",))
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 4, 0.9)


async def test_a_stream_and_a_whole_answer_say_the_same(serve: Serve, sdk: Sdk, kit: Any) -> None:
    served = await serve(kit.make_model())
    served.model.script = says(*THINKS_AND_CALLS)
    client = sdk(served).messages
    whole = await client.create(model="tiny", max_tokens=9, messages=USER, tools=[WEATHER])
    async with client.stream(model="tiny", max_tokens=9, messages=USER, tools=[WEATHER]) as stream:
        streamed = await stream.get_final_message()

    assert [b.to_dict() for b in streamed.content] == [b.to_dict() for b in whole.content]
    assert whole.content == [
        ThinkingBlock(type="thinking", thinking="Let me see.", signature=""),
        TextBlock(type="text", text="I ask."),
        ToolUseBlock(type="tool_use", id="call_1", name="weather", input={"city": "Rome"}),
        ToolUseBlock(type="tool_use", id="call_2", name="weather", input={}),
    ]
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert whole.usage.to_dict() == streamed.usage.to_dict()


async def test_the_events_of_a_stream_come_in_order(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    served.model.script = says(*THINKS_AND_CALLS)
    events = [
        event
        async for event in await sdk(served).messages.create(
            model="tiny", max_tokens=9, messages=USER, stream=True
        )
    ]
    assert [event.type for event in events] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta"),
        *("content_block_stop", "content_block_start", "content_block_delta"),
        *("content_block_delta", "content_block_stop", "content_block_start"),
        *("content_block_delta", "content_block_stop", "message_delta", "message_stop"),
    ]
    indices = [event.index for event in events if event.type == "content_block_start"]
    assert indices == [0, 1, 2, 3]
    kinds = [event.delta.type for event in events if event.type == "content_block_delta"]
    assert kinds[:4] == ["thinking_delta", "thinking_delta", "signature_delta", "text_delta"]
    assert events[0].message.usage.input_tokens == 7


@pytest.mark.parametrize(
    ("last", "reason", "sequence"),
    [
        (Delta(finish_reason="stop", usage=USAGE), "end_turn", None),
        (Delta(finish_reason="stop", stop_string="END", usage=USAGE), "stop_sequence", "END"),
        (Delta(finish_reason="stop", stop_string="<|im_end|>", usage=USAGE), "end_turn", None),
        (Delta(finish_reason="length", usage=USAGE), "max_tokens", None),
    ],
)
async def test_why_an_answer_ended(
    serve: Serve, sdk: Sdk, last: Delta, reason: str, sequence: str | None
) -> None:
    served = await serve()
    served.model.script = says(Delta(content="x"), last)
    client = sdk(served).messages
    arguments: Any = {"model": "tiny", "max_tokens": 9, "messages": USER, "stop_sequences": ["END"]}
    whole = await client.create(**arguments)
    async with client.stream(**arguments) as stream:
        streamed = await stream.get_final_message()
    for answer in (whole, streamed):
        assert (answer.stop_reason, answer.stop_sequence) == (reason, sequence)


async def test_a_call_that_was_cut_off_is_text(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    served.model.script = says(
        Delta(tool_calls=(ToolCallDelta(index=0, id="c", name="weather", arguments='{"ci'),)),
        Delta(finish_reason="length", usage=USAGE),
    )
    answer = await sdk(served).messages.create(model="tiny", max_tokens=2, messages=USER)
    assert answer.content == [TextBlock(type="text", text='weather({"ci')]
    assert answer.stop_reason == "max_tokens"


async def asked(served: Any, client: anthropic.AsyncAnthropic, **arguments: Any) -> ChatRequest:
    """What the engine is asked."""
    await client.messages.create(**{"model": "tiny", "max_tokens": 9, **arguments})
    request: ChatRequest = served.model.requests[-1]
    return request


async def test_an_agents_conversation_keeps_every_block(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    request = await asked(
        served,
        sdk(served),
        system=[{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
        messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "user", "content": [{"type": "text", "text": "In Rome."}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Ask.", "signature": "s"},
                    {"type": "text", "text": "I ask."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                    {"type": "text", "text": "And?"},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t2", "name": "weather", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no city"}],
                    }
                ],
            },
        ],
        tools=[WEATHER],
    )
    assert request.messages == (
        Message(role="system", content=(TextPart(text="One."), TextPart(text="Two."))),
        Message(role="user", content=(TextPart(text="Weather?"), TextPart(text="In Rome."))),
        Message(
            role="assistant",
            content=(TextPart(text="I ask."),),
            reasoning="Ask.",
            tool_calls=(ToolCall(id="t1", name="weather", arguments='{"city":"Rome"}'),),
        ),
        Message(role="tool", content=(TextPart(text="sunny"),), tool_call_id="t1"),
        Message(role="user", content=(TextPart(text="And?"),)),
        Message(role="assistant", tool_calls=(ToolCall(id="t2", name="weather", arguments="{}"),)),
        Message(
            role="tool",
            content=(TextPart(text="Error:"), TextPart(text="no city")),
            tool_call_id="t2",
        ),
    )
    assert request.tools[0].spec == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "of a city",
            "parameters": WEATHER["input_schema"],
        },
    }


async def test_an_image_comes_as_a_data_url(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content = [{"type": "image", "source": source}]
    request = await asked(served, sdk(served), messages=[{"role": "user", "content": content}])
    assert request.messages[0].content == (
        MediaPart(kind="image", url="data:image/png;base64,AAAA"),
    )


async def test_a_last_turn_of_the_assistant_is_the_beginning_of_the_answer(
    serve: Serve, sdk: Sdk
) -> None:
    served = await serve()
    request = await asked(
        served, sdk(served), messages=[*USER, {"role": "assistant", "content": "The"}]
    )
    assert request.continue_final_message
    assert not request.add_generation_prompt


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(), True),
        ({"type": "any"}, ToolChoice(mode="required"), False),
        ({"type": "none"}, ToolChoice(mode="none"), True),
        ({"type": "tool", "name": "weather"}, ToolChoice(mode="named", name="weather"), False),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice(mode="required"), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
    ],
)
async def test_choices_of_tools(
    serve: Serve, sdk: Sdk, choice: Any, expected: ToolChoice, parallel: bool
) -> None:
    served = await serve()
    request = await asked(served, sdk(served), messages=USER, tools=[WEATHER], tool_choice=choice)
    assert request.tool_choice == expected
    assert request.parallel_tool_calls is parallel


@pytest.mark.parametrize(
    ("arguments", "effort", "optional"),
    [
        ({}, None, False),
        ({"thinking": {"type": "disabled"}}, "none", False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "medium", False),
        ({"thinking": {"type": "adaptive"}}, "medium", True),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high", True),
        ({"output_config": {"effort": "high"}}, "high", True),
        ({"output_config": {"effort": "low"}}, "low", False),
    ],
)
async def test_thinking(
    serve: Serve, sdk: Sdk, arguments: Any, effort: str | None, optional: bool
) -> None:
    served = await serve()
    request = await asked(served, sdk(served), messages=USER, **arguments)
    assert (request.reasoning_effort, request.reasoning_optional) == (effort, optional)


async def test_names_of_tools_may_be_as_long_as_anthropic_publishes(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    name = "mcp__" + "x" * 123
    request = await asked(served, sdk(served), messages=USER, tools=[{**WEATHER, "name": name}])
    assert [tool.name for tool in request.tools] == [name]


def test_a_long_text_is_read_at_once() -> None:
    text = "x" * (16 << 20)
    began = time.perf_counter()
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
    read_messages(body, ServerSettings())
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "body",
    [
        {"messages": USER * 4097},
        {"messages": USER * 1_000_000},
        {"messages": USER, "tools": [WEATHER] * 257},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 16_385}]},
        {"messages": USER, "system": [{"type": "text", "text": "a"}] * 16_385},
    ],
)
def test_what_is_too_much_is_refused_before_it_is_looked_at(body: dict[str, Any]) -> None:
    """S-06."""
    began = time.perf_counter()
    with pytest.raises(RequestError, match="at most .* are taken"):
        read_messages({"model": "m", "max_tokens": 1, **body}, ServerSettings())
    assert time.perf_counter() - began < 0.5


def test_turns_of_one_role_become_one_in_time() -> None:
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "x" * 7000}]}
    messages = [*USER, *[turn] * 4094, *USER]
    began = time.perf_counter()
    call = read_messages({"model": "m", "max_tokens": 1, "messages": messages}, ServerSettings())
    assert time.perf_counter() - began < 3  # and not for every turn those before it again
    _, assistant, _ = call.chat.body.messages
    assert assistant == AssistantMessageBody(
        role="assistant", content=(), reasoning_content="x" * (7000 * 4094)
    )


async def test_a_tool_is_deferred_until_it_is_found(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    client = sdk(served)
    find: Any = {"name": "find", "input_schema": {"type": "object"}}
    tools = [find, {**WEATHER, "defer_loading": True}]
    shown = [tool.name for tool in (await asked(served, client, messages=USER, tools=tools)).tools]
    assert shown == ["find"]
    choice: Any = {"type": "tool", "name": "weather"}
    request = await asked(served, client, messages=USER, tools=tools, tool_choice=choice)
    assert [tool.name for tool in request.tools] == ["find", "weather"]
    turns: Any = [
        *USER,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "tool_reference", "tool_name": "weather"}],
                }
            ],
        },
    ]
    request = await asked(served, client, messages=turns, tools=tools)
    assert [tool.name for tool in request.tools] == ["find", "weather"]
    assert request.messages[-1].content == (TextPart(text="weather"),)


async def test_a_schema_constrains_the_answer(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    request = await asked(
        served,
        sdk(served),
        messages=USER,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert request.constraint is not None
    assert request.constraint.kind == "json_schema"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_tokens": None}, "max_tokens must be an integer, not null"),
        ({"max_tokens": 0}, "max_tokens must be between"),
        ({"messages": []}, "messages must not be empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role must be one of"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
            r"messages\[0\].content\[0\].type must be one of",
        ),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            r"tools\[0\].type must be 'custom'",
        ),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, "tool_choice.name is required"),
        (
            {"tool_choice": {"type": "tool", "name": "x"}, "tools": [WEATHER]},
            "tool_choice.name is not the name of a",
        ),
        ({"stop_sequences": [""]}, r"stop_sequences\[0\] must not be empty"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences has 17 items"),
        ({"tools": [WEATHER, WEATHER]}, r"tools\[1\].name is the name of another"),
        ({"tools": [{**WEATHER, "name": "x" * 129}]}, r"tools\[0\].name .*at most 128"),
        (
            {"tools": [{**WEATHER, "input_schema": {"type": "array"}}]},
            r"tools\[0\].input_schema.type must be 'object'",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
            "output_config.format.schema.type must be one",
        ),
        (
            {"messages": [{"role": "user", "content": []}]},
            r"messages\[0\].content must not be empty",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
                ]
            },
            r"messages\[0\].content\[0\].tool_use_id is the id of no tool_use block",
        ),
        (
            {
                "messages": [
                    *USER,
                    {
                        "role": "assistant",
                        "content": [{"type": "redacted_thinking", "data": "x"}],
                    },
                    *USER,
                ]
            },
            r"messages\[1\].content\[0\] was not made by this server",
        ),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "first"},
                            {"type": "tool_result", "tool_use_id": "t"},
                        ],
                    }
                ]
            },
            "must come first",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
                    }
                ]
            },
            "their results must follow",
        ),
    ],
)
async def test_what_makes_no_sense_is_400_in_anthropics_shape(
    serve: Serve, sdk: Sdk, body: dict[str, Any], message: str
) -> None:
    served = await serve()
    with pytest.raises(anthropic.BadRequestError, match=message) as caught:
        await asked(served, sdk(served), messages=USER, extra_body=body)
    body_sent: Any = caught.value.body
    assert body_sent["type"] == "error"
    assert body_sent["error"]["type"] == "invalid_request_error"
    assert not served.model.requests


async def test_a_format_that_knows_no_thinking_is_told_of_by_that_name(
    serve: Serve, sdk: Sdk, kit: SimpleNamespace
) -> None:
    model = kit.make_model()
    model.refusal = RequestError(
        "this model's chat format knows no reasoning_effort", param="reasoning_effort"
    )
    served = await serve(model)
    with pytest.raises(anthropic.BadRequestError, match="chat format knows no thinking"):
        await asked(served, sdk(served), messages=USER, output_config={"effort": "low"})


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/nothing", 404, None),
    ],
)
async def test_what_is_not_served_below_messages_is_told_in_anthropics_shape(
    serve: Serve, method: str, path: str, status: int, kind: str | None
) -> None:
    served = await serve()
    answer = await served.client.request(method, path)
    assert answer.status_code == status
    assert answer.json().get("type") == (kind and "error")
    assert kind in (None, answer.json()["error"]["type"])


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ContextLengthExceeded("too long"), 400, "invalid_request_error"),
        (RateLimited("slower"), 429, "rate_limit_error"),
        (QueueFull("full"), 503, "overloaded_error"),
    ],
)
async def test_errors_before_the_first_byte(
    serve: Serve, sdk: Sdk, error: Any, status: int, kind: str
) -> None:
    served = await serve()
    served.catalogue.lease_error = error
    with pytest.raises(anthropic.APIStatusError) as caught:
        await asked(served, sdk(served), messages=USER)
    assert caught.value.status_code == status
    body: Any = caught.value.body
    assert body["error"] == {"type": kind, "message": error.message}
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("text", "max_tokens", "message"),
    [
        ("a b c", 99, r"^input length and `max_tokens` exceed context limit: 6 \+ 99 > 100, "),
        ("a " * 1500, 9, r"^prompt is too long: 1504 tokens > 1000 maximum$"),
    ],
)
async def test_what_does_not_fit_is_told_in_anthropics_words(
    serve: Serve, sdk: Sdk, kit: SimpleNamespace, text: str, max_tokens: int, message: str
) -> None:
    served = await serve(kit.make_engine_model(context_length=100 if max_tokens == 99 else 1000))
    body: Any = {"max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
    answer = await served.post("/v1/messages", **body)
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"]["message"])


@pytest.mark.parametrize(
    "said",
    [
        "the prompt has more than 1,500 tokens, and the context length is 1,000 tokens",
        "this model's maximum context length is 1,000 tokens, and the prompt has 1,500 tokens and "
        "needs room for at least one more: shorten the prompt",
    ],
)
async def test_a_prompt_that_is_too_long_is_told_in_anthropics_words(said: str) -> None:
    told = json.loads(error_body(ContextLengthExceeded(said)))["error"]["message"]
    assert told == "prompt is too long: 1500 tokens > 1000 maximum"


async def test_an_unknown_model_and_a_wrong_key(serve: Serve, sdk: Sdk) -> None:
    served = await serve(api_key="right")
    with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
        await asked(served, sdk(served, "wrong"), messages=USER)
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        await asked(served, sdk(served, "right"), messages=USER, model="nobody")


async def test_an_error_inside_a_stream(serve: Serve, sdk: Sdk) -> None:
    async def dies(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        yield [Delta(content="Hel")]
        raise EngineDied("it ended")

    served = await serve()
    served.model.script = dies
    text = ""
    with pytest.raises(anthropic.APIStatusError, match="it ended"):
        async with sdk(served).messages.stream(model="tiny", max_tokens=9, messages=USER) as stream:
            async for piece in stream.text_stream:
                text += piece
    assert text == "Hel"


async def test_the_models_are_listed(serve: Serve, sdk: Sdk, kit: SimpleNamespace) -> None:
    served = await serve(kit.make_model(), kit.make_model("other"))
    page = await sdk(served).models.list()
    assert [(m.type, m.id, m.display_name) for m in page.data] == [
        ("model", "tiny", "tiny"),
        ("model", "other", "other"),
    ]
    assert page.data[0].created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (page.has_more, page.first_id, page.last_id) == (False, "tiny", "other")
    assert [model.id async for model in page] == ["tiny", "other"]


async def test_unknown_parameters_are_named_in_a_header(serve: Serve, sdk: Sdk) -> None:
    served = await serve()
    raw = await sdk(served).messages.with_raw_response.create(
        model="tiny", max_tokens=9, messages=USER, extra_body={"wings": 2, "metadata": {}}
    )
    assert raw.headers["x-jarvis-ignored-params"] == "wings"
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
