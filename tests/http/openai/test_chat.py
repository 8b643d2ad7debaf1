"""POST /v1/chat/completions over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineDied,
    EngineError,
    ModelSourceError,
    ModelUnavailable,
    QueueFull,
)
from jarvis_core.structs import (
    ChatRequest,
    Delta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

pytestmark = pytest.mark.anyio

USAGE = Usage(prompt_tokens=7, completion_tokens=2)
Batches = AsyncIterator[Sequence[Delta]]


async def test_a_whole_answer_has_openais_shape(serve: Any) -> None:
    served = await serve()
    answer = await served.chat("hello there")
    assert answer.status_code == 200
    body = answer.json()
    assert body["id"].startswith("chatcmpl-")
    assert isinstance(body["created"], int)
    del body["id"], body["created"]
    assert body == {
        "object": "chat.completion",
        "model": "tiny",
        "system_fingerprint": "fake/fake 1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hello there",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_a_stream_has_openais_shape(serve: Any, kit: Any) -> None:
    served = await serve()
    answer = await served.chat("hello there", stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = kit.read_events(answer.text)
    assert events.done
    assert len({chunk["id"] for chunk in events.chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in events.chunks)
    assert all("usage" not in chunk for chunk in events.chunks)
    assert [chunk["choices"] for chunk in events.chunks] == [
        [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {"content": "hello"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": " there"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
    ]


async def test_usage_comes_in_a_chunk_of_its_own_if_it_is_asked_for(serve: Any, kit: Any) -> None:
    served = await serve()
    answer = await served.chat("a", stream=True, stream_options={"include_usage": True})
    *others, last = kit.read_events(answer.text).chunks
    assert all(chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 8
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_streamed_and_whole_answers_say_the_same(serve: Any, kit: Any) -> None:
    served = await serve()
    text = 'quotes " and \\ and \n and é and 😀 and \x00'
    whole = (await served.chat(text, n=2)).json()["choices"]
    streamed = kit.read_events((await served.chat(text, n=2, stream=True)).text).chunks
    for index in (0, 1):
        said = "".join(
            choice["delta"].get("content", "")
            for chunk in streamed
            for choice in chunk["choices"]
            if choice["index"] == index
        )
        assert said == whole[index]["message"]["content"] == text


async def test_reasoning_is_apart_from_content(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(reasoning="let me"), Delta(reasoning=" think")]
        yield [Delta(content="yes"), Delta(finish_reason="stop", usage=USAGE)]

    model.script = script
    served = await serve(model)
    message = (await served.chat()).json()["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "let me think"
    assert message["content"] == "yes"
    deltas = [
        c["choices"][0]["delta"]
        for c in kit.read_events((await served.chat(stream=True)).text).chunks
    ]
    assert {"reasoning_content": "let me", "reasoning": "let me"} in deltas


async def test_tool_calls_stream_name_first_and_fold_to_calls(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(tool_calls=(ToolCallDelta(index=0, id="call_1", name="look"),))]
        yield [Delta(tool_calls=(ToolCallDelta(index=0, arguments='{"a":'),))]
        yield [
            Delta(tool_calls=(ToolCallDelta(index=0, arguments="1}"),)),
            Delta(finish_reason="tool_calls", usage=USAGE),
        ]

    model.script = script
    served = await serve(model)
    tools = [{"type": "function", "function": {"name": "look"}}]
    choice = (await served.chat(tools=tools)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    ]
    chunks = kit.read_events((await served.chat(tools=tools, stream=True)).text).chunks
    assert [c["choices"][0]["delta"].get("tool_calls") for c in chunks[1:-1]] == [
        [
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            }
        ],
        [{"index": 0, "function": {"arguments": '{"a":'}}],
        [{"index": 0, "function": {"arguments": "1}"}}],
    ]


async def test_logprobs_have_bytes_and_the_likeliest_tokens(serve: Any, kit: Any) -> None:
    model = kit.make_model()
    top = TokenLogprob(token_id=2, token="b", logprob=float("-inf"), data=b"\xff")
    one = TokenLogprob(token_id=1, token="a", logprob=-0.5, data=b"a", top=(top,))

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(content="a", logprobs=(one,)), Delta(finish_reason="stop", usage=USAGE)]

    model.script = script
    served = await serve(model)
    expected = {
        "content": [
            {
                "token": "a",
                "logprob": -0.5,
                "bytes": [97],
                "top_logprobs": [{"token": "b", "logprob": -9999.0, "bytes": [255]}],
            }
        ],
        "refusal": None,
    }
    whole = await served.chat(logprobs=True, top_logprobs=1)
    assert whole.json()["choices"][0]["logprobs"] == expected
    streamed = await served.chat(logprobs=True, top_logprobs=1, stream=True)
    chunk = kit.read_events(streamed.text).chunks[1]
    assert chunk["choices"][0]["logprobs"] == expected
    assert served.model.requests[0].logprobs == 1


async def test_logprobs_of_tokens_without_text_have_a_chunk_too(serve: Any, kit: Any) -> None:
    model = kit.make_model()
    one = TokenLogprob(token_id=1, token="", logprob=-0.5, data=b"\xf0")

    async def script(request: ChatRequest) -> Batches:
        yield [
            Delta(content="a"),
            Delta(logprobs=(one,)),
            Delta(finish_reason="stop", usage=USAGE, logprobs=(one,)),
        ]

    model.script = script
    served = await serve(model)
    streamed = await served.chat(logprobs=True, stream=True)
    choices = [chunk["choices"][0] for chunk in kit.read_events(streamed.text).chunks[1:]]
    found = [(c["delta"], c["logprobs"] and len(c["logprobs"]["content"])) for c in choices]
    assert found == [
        ({"content": "a"}, None),
        ({"content": ""}, 1),
        ({"content": ""}, 1),
        ({}, None),
    ]


async def test_a_batch_is_one_write_with_a_chunk_for_each_delta(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(content="a"), Delta(content="b"), Delta(content="c")]
        yield [Delta(content="d", finish_reason="length", usage=USAGE)]

    model.script = script
    served = await serve(model)
    events = kit.read_events((await served.chat(stream=True)).text)
    choices = [chunk["choices"][0] for chunk in events.chunks]
    assert [c["delta"].get("content") for c in choices] == ["", "a", "b", "c", "d", None]
    assert [c["finish_reason"] for c in choices] == [None] * 5 + ["length"]


async def test_an_alias_answers_with_the_configured_name(serve: Any) -> None:
    served = await serve()
    assert (await served.chat(model="a/b")).json()["model"] == "tiny"


async def test_unknown_parameters_are_ignored_and_listed(serve: Any) -> None:
    served = await serve()
    for stream in (False, True):
        answer = await served.chat(stream=stream, frobnicate=1, best_of=2, **{"a\r\nb": 3})
        assert answer.status_code == 200
        assert answer.headers["x-jarvis-ignored-params"] == "frobnicate, best_of, +1"
    assert "x-jarvis-ignored-params" not in (await served.chat()).headers


async def test_the_request_id_goes_to_the_engine_and_back(serve: Any) -> None:
    served = await serve()
    for stream in (False, True):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "stream": stream}
        answer = await served.client.post(
            "/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"}
        )
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["openai-processing-ms"].isdecimal()
    assert served.model.request_ids == ["mine-1", "mine-1"]


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "<script>", "é"])
async def test_a_request_id_that_is_not_sane_is_replaced(serve: Any, sent: str) -> None:
    served = await serve()
    answer = await served.client.get("/health/live", headers={"x-request-id": sent.encode()})
    assert answer.headers["x-request-id"].startswith("req-")


# -- errors before the first byte ----------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_404(serve: Any, stream: bool) -> None:
    served = await serve()
    answer = await served.chat(model="nope", stream=stream)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextLengthExceeded("8 and 9", param="messages"), 400, "context_length_exceeded"),
        (EngineDied("it died"), 503, "engine_died"),
        (EngineError("it failed"), 500, "engine_error"),
    ],
)
async def test_what_the_engine_refuses_is_an_http_error_even_for_a_stream(
    serve: Any, kit: Any, stream: bool, error: Exception, status: int, code: str
) -> None:
    model = kit.make_model()
    model.refusal = error
    served = await serve(model)
    answer = await served.chat(stream=stream)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"] == str(error)
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (QueueFull("full", retry_after=2.2), 503, "3"),
        (ModelUnavailable("loading"), 503, "1"),
        (ModelSourceError("no such file"), 409, None),
    ],
)
async def test_what_the_catalogue_refuses_is_told(
    serve: Any, error: Exception, status: int, retry_after: str | None
) -> None:
    served = await serve()
    served.catalogue.lease_error = error
    answer = await served.chat()
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert answer.json()["error"]["message"] == str(error)


async def test_a_bug_is_500_without_detail_and_a_traceback_in_the_log(
    serve: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = kit.make_model()
    model.refusal = ZeroDivisionError("secret detail")
    served = await serve(model)
    answer = await served.chat()
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


# -- errors after the first byte -----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineDied("it died"), "engine_died"), (ZeroDivisionError("secret"), "internal_error")],
)
async def test_a_stream_that_fails_ends_with_an_error_event_and_no_done(
    serve: Any, kit: Any, error: Exception, code: str
) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(content="a")]
        raise error

    model.script = script
    served = await serve(model)
    answer = await served.chat(stream=True)
    assert answer.status_code == 200
    events = kit.read_events(answer.text)
    assert [e["code"] for e in events.errors] == [code]
    assert not events.done
    assert "secret" not in answer.text
    assert model.running == 0
    assert (await served.chat(stream=False)).status_code in (500, 503)


async def test_a_stream_without_usage_is_an_error_too(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        yield [Delta(content="a", finish_reason="stop")]

    model.script = script
    served = await serve(model)
    events = kit.read_events((await served.chat(stream=True)).text)
    assert not events.done
    assert events.errors[0]["code"] == "engine_error"
    assert (await served.chat()).status_code == 500


async def test_a_whole_answer_over_the_deadline_is_504_and_aborted(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        await asyncio.sleep(60)
        yield []

    model.script = script
    served = await serve(model, request_timeout=0.1)
    answer = await served.chat()
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert model.running == 0


async def test_a_stream_may_outlast_the_deadline_of_whole_answers(serve: Any, kit: Any) -> None:
    model = kit.make_model()

    async def script(request: ChatRequest) -> Batches:
        await asyncio.sleep(0.3)
        yield [Delta(content="a", finish_reason="stop", usage=USAGE)]

    model.script = script
    served = await serve(model, request_timeout=0.1)
    assert kit.read_events((await served.chat(stream=True)).text).done


async def test_sixteen_at_once_get_each_their_own(serve: Any) -> None:
    served = await serve()
    texts = [f"request number {i}" for i in range(16)]
    answers = await asyncio.gather(*(served.chat(text) for text in texts))
    assert [a.json()["choices"][0]["message"]["content"] for a in answers] == texts
    assert len({a.json()["id"] for a in answers}) == 16


async def test_logprobs_of_the_prompt_come_in_vllms_shape(serve: Any, kit: Any) -> None:
    served = await serve(kit.make_engine_model())
    first, *others = (await served.chat("hello there", prompt_logprobs=1)).json()["prompt_logprobs"]

    assert first is None
    assert [list(token.values()) for token in others[-1:]] == [
        [{"logprob": -0.5, "rank": 1, "decoded_token": "\n"}]
    ]
    assert len(others) == 4
    unranked = (await served.chat("a", prompt_logprobs=0)).json()["prompt_logprobs"]
    assert [token["rank"] for token in unranked[1].values()] == [None]


async def test_logprobs_of_the_prompt_are_not_streamed(serve: Any, kit: Any) -> None:
    served = await serve(kit.make_engine_model())
    answer = await served.chat("a", prompt_logprobs=1, stream=True)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt_logprobs"
