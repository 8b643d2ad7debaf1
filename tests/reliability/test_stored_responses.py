"""Stored responses of a whole server: they outlive it, and a file that cannot be used stops it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from served import Serve, Server, until

pytestmark = pytest.mark.anyio


async def respond(server: Server, text: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "input": text, **fields}
    answer = await server.client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_responses_outlive_a_killed_server(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "responses.db")
    server = await serve(JARVIS_RESPONSES_DB=path)
    first = await respond(server, "one")
    second = await respond(server, "two", previous_response_id=first["id"])
    server.process.kill()
    await server.ended(within=10)
    server = await serve(JARVIS_RESPONSES_DB=path)
    found = await server.client.get(f"/v1/responses/{second['id']}")
    assert found.json() == second
    third = await respond(server, "three", previous_response_id=second["id"])
    assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"]
    server.process.terminate()
    assert await server.ended(within=20) == 0
    assert [found.name for found in tmp_path.glob("responses.db*")] == ["responses.db"]


async def test_a_stream_that_has_said_its_end_outlives_a_server_killed_then(
    serve: Serve, tmp_path: Path
) -> None:
    path = str(tmp_path / "responses.db")
    server = await serve(JARVIS_RESPONSES_DB=path)
    body = {"model": "m", "input": "one", "stream": True}
    text = ""
    async with server.client.stream("POST", "/v1/responses", json=body) as stream:
        async for piece in stream.aiter_text():
            text += piece
            if "event: response.completed" in text:
                server.process.kill()
                break
    await server.ended(within=10)
    server = await serve(JARVIS_RESPONSES_DB=path)
    id_ = text.partition('"id":"resp_')[2].partition('"')[0]
    kept = (await server.client.get(f"/v1/responses/resp_{id_}")).json()
    assert kept["status"] == "completed"


@pytest.mark.parametrize("what", ["folder", "foreign", "locked"])
async def test_a_file_that_cannot_be_used_stops_the_start(
    what: str, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "responses.db"
    held = path
    if what == "folder":
        path.mkdir()
        held = tmp_path / "other.db"
    with closing(sqlite3.connect(held, isolation_level=None)) as other:
        if what == "foreign":
            other.execute("CREATE TABLE notes (text TEXT)")
        if what == "locked":
            other.execute("BEGIN EXCLUSIVE")
        server = await serve(wait=False, JARVIS_RESPONSES_DB=str(path))
        assert await server.ended(within=30) == 2
    assert f"JARVIS_RESPONSES_DB: {path} cannot be used" in server.log
    assert "Traceback" not in server.log


async def test_a_client_that_leaves_ends_its_response(serve: Serve) -> None:
    server = await serve()
    body = {"model": "m", "input": "!words=2000 !delay=0.01", "stream": True}
    async with server.client.stream("POST", "/v1/responses", json=body) as stream:
        text = ""
        async for piece in stream.aiter_text():
            text += piece
            if text.count("output_text.delta") > 3:
                break

    async def idle() -> bool:
        return await server.running() == (0, 0)

    await until(idle, within=10)
    id_ = text.partition('"id":"resp_')[2].partition('"')[0]
    kept = (await server.client.get(f"/v1/responses/resp_{id_}")).json()
    assert kept["status"] == "cancelled"


async def test_a_dead_engine_fails_the_response_and_keeps_what_came(serve: Serve) -> None:
    server = await serve()
    body = {"model": "m", "input": "!words=50 !delay=0.01 !die=5", "stream": True}
    text = (await server.client.post("/v1/responses", json=body)).text
    assert "event: response.failed\n" in text
    assert "event: error\n" in text
    assert "[DONE]" not in text
    id_ = text.partition('"id":"resp_')[2].partition('"')[0]
    kept = (await server.client.get(f"/v1/responses/resp_{id_}")).json()
    assert (kept["status"], kept["error"]["code"]) == ("failed", "server_error")


async def test_a_stream_that_a_shutdown_cuts_is_kept_as_failed(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "responses.db"
    server = await serve(JARVIS_RESPONSES_DB=str(path), JARVIS_DRAIN_TIMEOUT="0.1")
    body = {"model": "m", "input": "!words=2000 !delay=0.01", "stream": True}
    text = ""
    async with server.client.stream("POST", "/v1/responses", json=body) as stream:
        async for piece in stream.aiter_text():
            if "output_text.delta" in piece and "output_text.delta" not in text:
                server.process.terminate()
            text += piece
    assert "event: response.failed\n" in text
    assert "the server is shutting down" in text
    assert "[DONE]" not in text
    assert await server.ended(within=20) == 0
    with closing(sqlite3.connect(path)) as db:
        ((stored,),) = db.execute("SELECT body FROM responses").fetchall()
    assert json.loads(stored)["status"] == "failed"
