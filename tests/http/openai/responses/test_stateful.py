"""Stored responses over HTTP: continued, referred to, retrieved, listed, deleted, kept apart."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from schemas import faults, response_faults

from jarvis_core.errors import EngineDied, ModelUnavailable
from jarvis_core.http.openai.responses import database
from jarvis_core.structs import ChatRequest, Delta, TokenLogprob, ToolCall

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
Make = Callable[..., Any]


def said(request: ChatRequest) -> list[tuple[str, Any]]:
    """Role and content of each message."""
    return [(message.role, message.content) for message in request.messages]


def joined(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events with neighbouring deltas of one item as one."""
    made: list[dict[str, Any]] = []
    for event in events:
        if made and "delta" in event and made[-1]["type"] == event["type"]:
            made[-1] = {**made[-1], "delta": made[-1]["delta"] + event["delta"]}
        else:
            made.append(event)
    return [
        event if event["type"] == "[DONE]" else {**event, "sequence_number": number}
        for number, event in enumerate(made)
    ]


# -- conversations ---------------------------------------------------------------------------


async def test_a_conversation_goes_on_without_being_sent_again(
    serve: Serve, responses: Make
) -> None:
    served = await serve()
    client = responses(served)
    first = await client.create("one")
    second = await client.create("two", previous_response_id=first["id"])
    await client.create("three", previous_response_id=second["id"])
    assert said(served.model.requests[-1]) == [
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
        ("assistant", "two"),
        ("user", "three"),
    ]
    assert second["previous_response_id"] == first["id"]


async def test_a_streamed_response_can_be_continued_at_once(serve: Serve, responses: Make) -> None:
    served = await serve()
    client = responses(served)
    events = await client.stream("one")
    await client.stream("two", previous_response_id=events[-2]["response"]["id"])
    assert [text for _, text in said(served.model.requests[-1])] == ["one", "one", "two"]


async def test_a_conversation_may_fork(serve: Serve, responses: Make) -> None:
    served = await serve()
    client = responses(served)
    root = await client.create("root")
    await client.create("left", previous_response_id=root["id"])
    await client.create("right", previous_response_id=root["id"])
    assert [text for _, text in said(served.model.requests[-1])] == ["root", "root", "right"]


async def test_instructions_are_for_one_response(serve: Serve, responses: Make) -> None:
    served = await serve()
    client = responses(served)
    first = await client.create("one", instructions="Be brief.")
    assert said(served.model.requests[-1])[0] == ("system", "Be brief.")
    await client.create("two", instructions="Be long.", previous_response_id=first["id"])
    assert [m for m in said(served.model.requests[-1]) if m[0] == "system"] == [
        ("system", "Be long.")
    ]


async def test_a_turn_comes_back_as_the_one_message_that_it_was(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    model = script.model(
        script.says(
            Delta(reasoning="Hm."),
            Delta(content="Let me look."),
            *script.calls("weather", '{"city": "Oslo"}'),
            *script.calls("weather", "{}", index=1, id="call_2"),
        )
    )
    client = responses(await serve(model))
    first = await client.create("x", tools=[script.TOOL])
    outputs = [
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "sun"}],
        },
    ]
    await client.create(outputs, tools=[script.TOOL], previous_response_id=first["id"])
    _, assistant, rain, sun = model.requests[-1].messages
    assert (assistant.content, assistant.reasoning) == ("Let me look.", "Hm.")
    assert assistant.tool_calls == (
        ToolCall(id="call_1", name="weather", arguments='{"city": "Oslo"}'),
        ToolCall(id="call_2", name="weather", arguments="{}"),
    )
    assert (rain.role, rain.content, rain.tool_call_id) == ("tool", "rain", "call_1")
    assert (sun.content, sun.tool_call_id) == ("sun", "call_2")


@pytest.mark.parametrize(("by", "status"), [("length", "incomplete"), ("stop", "completed")])
async def test_a_call_that_was_cut_off_is_not_part_of_the_conversation(
    serve: Serve, responses: Make, script: SimpleNamespace, by: str, status: str
) -> None:
    model = script.model(script.says(*script.calls("weather", '{"ci'), finish_reason=by))
    client = responses(await serve(model))
    first = await client.create("x", tools=[script.TOOL])
    assert first["status"] == status
    assert first["output"][0]["status"] == "incomplete"
    await client.create("again", previous_response_id=first["id"])
    assert not any(message.tool_calls for message in model.requests[-1].messages)
    x, again = ({"role": "user", "content": text} for text in ("x", "again"))
    await client.create([x, *first["output"], again])
    assert model.requests[-1].messages == model.requests[-2].messages


@pytest.mark.parametrize("name", ["weather", "mcp__files__list"])
async def test_sending_the_output_back_is_the_same_as_going_on_from_it(
    serve: Serve, responses: Make, script: SimpleNamespace, name: str
) -> None:
    model = script.model(
        script.says(Delta(reasoning="Hm."), Delta(content="Yes."), *script.calls(name, "{}"))
    )
    client = responses(await serve(model))
    tools = [script.TOOL, script.FILES]
    first = await client.create("x", tools=tools, reasoning={"summary": "auto"})
    result = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    user = {"role": "user", "content": "x"}
    await client.create([result], tools=tools, previous_response_id=first["id"])
    await client.create([user, *first["output"], result], tools=tools, store=False)
    assert model.requests[-1].messages == model.requests[-2].messages
    assert model.requests[-1].messages[1].tool_calls[0].name == name


async def test_items_can_be_referred_to(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    served = await serve()
    client = responses(served)
    first = await client.create("one")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    untyped = {"id": (await client.get(f"{first['id']}/input_items"))["data"][0]["id"]}
    user = {"role": "user", "content": "two"}
    second = await client.create([untyped, reference, user])
    assert [text for _, text in said(served.model.requests[-1])] == ["one", "one", "two"]
    assert await served.front.responses.delete(first["id"], "")
    listed = await client.get(f"{second['id']}/input_items", order="asc")
    assert listed["data"][1] == first["output"][0]
    error = await client.refused([reference])
    assert error["param"] == "input[0].id"


# -- what is not there -----------------------------------------------------------------------


async def test_an_unknown_previous_response_is_named(serve: Serve, responses: Make) -> None:
    error = await responses(await serve()).refused("x", previous_response_id="resp_none")
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"
    assert "resp_none" not in error["message"]


async def test_a_conversation_without_its_middle_cannot_go_on(
    serve: Serve, responses: Make
) -> None:
    served = await serve()
    client = responses(served)
    first = await client.create("one")
    second = await client.create("two", previous_response_id=first["id"])
    third = await client.create("three", previous_response_id=second["id"])
    deleted = await served.client.delete(f"/v1/responses/{second['id']}")
    assert deleted.json() == {"id": second["id"], "object": "response", "deleted": True}
    error = await client.refused("four", previous_response_id=third["id"])
    assert error["code"] == "previous_response_not_found"
    assert "one of the responses before it" in error["message"]
    assert (await client.get(third["id"]))["id"] == third["id"]
    listed = await served.client.get(f"/v1/responses/{third['id']}/input_items")
    assert listed.status_code == 404


async def test_what_is_not_stored_is_not_found(serve: Serve, responses: Make) -> None:
    served = await serve()
    client = responses(served)
    body = await client.create("x", store=False)
    assert body["store"] is False
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
    ):
        answer = await served.client.request(method, f"/v1/responses/{body['id']}{path}")
        assert answer.status_code == 404, path
        assert faults("openai", "ErrorResponse", answer.json()) == []


async def test_an_expired_response_is_gone(serve: Serve, responses: Make) -> None:
    served = await serve(responses_ttl=60.0)
    client = responses(served)
    body = await client.create("x")
    assert (await served.client.get(f"/v1/responses/{body['id']}")).status_code == 200
    served.front.responses._clock = lambda: time.time() + 61
    assert (await served.client.get(f"/v1/responses/{body['id']}")).status_code == 404
    error = await client.refused("y", previous_response_id=body["id"])
    assert "has expired" in error["message"]


async def test_a_full_store_forgets_the_oldest(serve: Serve, responses: Make) -> None:
    served = await serve(responses_max=2)
    client = responses(served)
    bodies = [await client.create("x") for _ in range(3)]
    codes = [
        (await served.client.get(f"/v1/responses/{body['id']}")).status_code for body in bodies
    ]
    assert codes == [404, 200, 200]


async def test_a_response_larger_than_the_store_says_that_it_is_not_stored(
    serve: Serve, responses: Make
) -> None:
    served = await serve(responses_max_bytes=65_536)
    client = responses(served)
    body = await client.create("x" * 70_000)
    assert body["store"] is False
    assert (await served.client.get(f"/v1/responses/{body['id']}")).status_code == 404
    assert (await client.stream("x" * 70_000))[-2]["response"]["store"] is False


async def test_a_response_that_could_not_be_written_says_that_it_is_not_stored(
    serve: Serve, responses: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.05)
    path = tmp_path / "responses.db"
    client = responses(await serve(responses_db=str(path)))
    first = await client.create("one")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        whole = await client.create("two", previous_response_id=first["id"])
        streamed = (await client.stream("three"))[-2]
        deleted = await client.served.client.delete(f"/v1/responses/{first['id']}")
    assert (first["store"], whole["store"]) == (True, False)
    assert (streamed["type"], streamed["response"]["store"]) == ("response.completed", False)
    assert deleted.status_code == 503
    assert deleted.json()["error"]["code"] == "store_unavailable"
    assert deleted.headers["retry-after"] == "2"
    assert (await client.create("four", previous_response_id=first["id"]))["store"]


async def test_a_file_that_fails_is_an_answer_of_its_own(
    serve: Serve, responses: Make, tmp_path: Path
) -> None:
    path = tmp_path / "responses.db"
    client = responses(await serve(responses_db=str(path)))
    first = await client.create("one")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE responses")
    answers = [
        await client.served.client.get(f"/v1/responses/{first['id']}"),
        await client.served.client.get(f"/v1/responses/{first['id']}/input_items"),
        await client.post("two", previous_response_id=first["id"]),
        await client.post([{"type": "item_reference", "id": first["output"][0]["id"]}]),
    ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all(faults("openai", "ErrorResponse", answer.json()) == [] for answer in answers)
    assert not (await client.create("three"))["store"]


async def test_keys_see_their_own_responses_only(serve: Serve) -> None:
    served = await serve(api_key="one,two")

    def client(key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=served.url, headers={"authorization": f"Bearer {key}"}, trust_env=False
        )

    async with client("one") as mine, client("two") as other:
        body = (await mine.post("/v1/responses", json={"model": "tiny", "input": "x"})).json()
        path = f"/v1/responses/{body['id']}"
        for method, at in (("GET", path), ("DELETE", path), ("GET", f"{path}/input_items")):
            assert (await other.request(method, at)).status_code == 404
        for sent in (
            {"input": "y", "previous_response_id": body["id"]},
            {"input": [{"type": "item_reference", "id": body["output"][0]["id"]}]},
        ):
            answer = await other.post("/v1/responses", json={"model": "tiny", **sent})
            assert answer.status_code == 400
        assert (await mine.get(path)).json() == body


async def test_a_client_that_leaves_finds_what_it_was_sent(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    async def endless(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        while True:
            yield [Delta(content="word ")]
            await asyncio.sleep(0.01)

    served = await serve(script.model(endless))
    body = {"model": "tiny", "input": "x", "stream": True}
    async with served.client.stream("POST", "/v1/responses", json=body) as stream:
        text = ""
        async for piece in stream.aiter_text():
            text += piece
            if text.count("output_text.delta") > 4:
                break
    await served.idle()
    assert served.model.running == 0
    id_ = text.partition('"id":"resp_')[2].partition('"')[0]
    client = responses(served)
    kept = await client.get(f"resp_{id_}")
    assert response_faults(kept) == []
    assert kept["status"] == "cancelled"
    assert kept["output"][0]["content"][0]["text"].startswith("word word ")
    error = await client.refused("y", previous_response_id=kept["id"])
    assert "cancelled" in error["message"]


async def test_responses_outlive_the_server_in_a_file(
    serve: Serve, responses: Make, tmp_path: Path
) -> None:
    path = str(tmp_path / "responses.db")
    first = await responses(await serve(responses_db=path)).create("one")
    served = await serve(responses_db=path)
    client = responses(served)
    assert await client.get(first["id"]) == first
    await client.create("two", previous_response_id=first["id"])
    assert [text for _, text in said(served.model.requests[-1])] == ["one", "one", "two"]


async def died(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
    yield [Delta(content="word ")]
    raise EngineDied("it died")


@pytest.mark.parametrize(
    ("script", "end"), [(None, "event: response.completed"), (died, "event: response.failed")]
)
async def test_a_stream_says_how_it_ended_once_that_is_stored(
    serve: Serve, kit: Any, script: Any, end: str
) -> None:
    """While a slow disk writes, the stream is kept alive."""
    model = kit.make_model()
    model.script = script or model.script
    served = await serve(model, keepalive_interval=0.05)
    slow = threading.Event()
    served.front.responses._thread.submit(slow.wait, 20)
    text = ""
    body = {"model": "tiny", "input": "hello", "stream": True}
    async with served.client.stream("POST", "/v1/responses", json=body) as stream:
        async for piece in stream.aiter_text():
            text += piece
            if text.count(": keep-alive") > 2 and not slow.is_set():
                assert "output_text.delta" in text
                assert end not in text
                assert model.running == 0
                slow.set()
    assert slow.is_set()
    assert end in text


async def test_a_server_that_ends_does_not_wait_for_the_disk_with_what_is_complete(
    serve: Serve,
) -> None:
    served = await serve(keepalive_interval=0.05)
    slow = threading.Event()
    served.front.responses._thread.submit(slow.wait, 20)
    text = ""
    body = {"model": "tiny", "input": "hello", "stream": True}
    async with served.client.stream("POST", "/v1/responses", json=body) as stream:
        async for piece in stream.aiter_text():
            text += piece
            if text.count(": keep-alive") > 2:
                served.front.exchanges.cut_all(ModelUnavailable("shut"))
    slow.set()
    assert "event: response.completed" in text
    assert "response.failed" not in text


# -- retrieval -------------------------------------------------------------------------------


async def test_retrieving_gives_the_same_response(serve: Serve, responses: Make) -> None:
    client = responses(await serve())
    body = await client.create("x", metadata={"a": "b"})
    assert await client.get(body["id"]) == body
    streamed = (await client.stream("x"))[-2]["response"]
    assert await client.get(streamed["id"]) == streamed


async def test_a_stored_response_is_told_as_events_again(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    likely = TokenLogprob(token_id=1, token="Yes", logprob=-0.5, data=b"Yes")
    model = script.model(
        script.says(
            Delta(reasoning="Hm."),
            Delta(content="Yes", logprobs=(likely,)),
            *script.calls("weather", '{"city": "Oslo"}'),
            *script.calls("mcp__files__list", "{}", index=1, id="call_2"),
        )
    )
    client = responses(await serve(model))
    for wanted in ({}, {"reasoning": {"summary": "auto"}}):
        tools = [script.TOOL, script.FILES]
        made = await client.stream("x", tools=tools, top_logprobs=1, **wanted)
        again = await client.told(made[-2]["response"]["id"])
        assert again[2:] == joined(made)[2:]
        assert again[1]["response"]["output"] == []


async def test_a_response_that_failed_is_told_without_an_end(
    serve: Serve, responses: Make, script: SimpleNamespace
) -> None:
    async def dies(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        yield [Delta(content="Once")]
        raise EngineDied("the engine died")

    client = responses(await serve(script.model(dies)))
    failed = (await client.stream("x"))[-2]
    assert (await client.told(failed["response"]["id"]))[-1]["type"] == "response.failed"


async def test_events_cannot_be_told_from_somewhere_in_between(
    serve: Serve, responses: Make
) -> None:
    served = await serve()
    body = await responses(served).create("x")
    query = {"stream": "true", "starting_after": "3"}
    answer = await served.client.get(f"/v1/responses/{body['id']}", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "starting_after"


async def test_nothing_can_be_cancelled(serve: Serve, responses: Make) -> None:
    served = await serve()
    body = await responses(served).create("x")
    answer = await served.client.post(f"/v1/responses/{body['id']}/cancel")
    assert answer.status_code == 400
    assert "background" in answer.json()["error"]["message"]


async def test_input_items_come_in_pages(serve: Serve, responses: Make) -> None:
    client = responses(await serve())
    first = await client.create(
        [
            {"role": "system", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "d"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "e"}]},
            {"role": "assistant", "content": "f"},
            {"role": "user", "content": "g"},
        ]
    )
    second = await client.create("h", previous_response_id=first["id"])
    path = f"{second['id']}/input_items"
    everything = await client.get(path, order="asc")
    assert faults("openai", "ResponseItemList", everything) == []
    assert [item["type"] for item in everything["data"]] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "message",
        "message",
        "message",
        "message",
    ]
    assert everything["data"][7] == first["output"][0]
    assert everything["has_more"] is False
    newest = await client.get(path, limit=2)
    assert [item["id"] for item in newest["data"]] == [
        item["id"] for item in everything["data"][:-3:-1]
    ]
    assert newest["has_more"] is True
    rest = await client.get(path, after=newest["last_id"], limit=100)
    assert len(rest["data"]) == 7
    empty = await client.get(path, after=rest["last_id"])
    assert faults("openai", "ResponseItemList", empty) == []
    assert empty["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "none"}, "after"),
    ],
)
async def test_odd_pages_are_refused(
    query: dict[str, str], param: str, serve: Serve, responses: Make
) -> None:
    served = await serve()
    body = await responses(served).create("x")
    path = f"/v1/responses/{body['id']}/input_items"
    answer = await served.client.get(path, params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
