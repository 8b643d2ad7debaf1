"""Bodies: strict JSON, in time, within the limit."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import pytest

from jarvis_core.errors import RequestError
from jarvis_core.http import protocol
from jarvis_core.http.body import LARGE, MAX_VALUES, parse

pytestmark = pytest.mark.anyio

CHAT = b'{"model":"tiny","messages":[{"role":"user","content":"%b"}]}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1}{"b":2}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse(body)


def test_the_message_says_where_and_quotes_nothing() -> None:
    with pytest.raises(RequestError) as caught:
        parse(b'{"secret text": secret}')
    assert "byte 16" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_a_large_body_of_brackets_is_refused_quickly(value: bytes) -> None:
    each = 1 if value == b"0" else 2  # a bracket and a comma
    body = b"[" + (value + b",") * (MAX_VALUES // each + 1) + b"0]"
    began = time.perf_counter()
    with pytest.raises(RequestError, match="brackets and commas"):
        parse(body)
    assert time.perf_counter() - began < 0.5


def test_a_large_body_of_text_is_taken() -> None:
    assert parse(b'{"a":"' + b"x" * (LARGE * 4) + b'"}') == {"a": "x" * (LARGE * 4)}


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null"])
async def test_a_body_that_is_no_object_is_400(serve: Any, body: bytes) -> None:
    served = await serve()
    answer = await served.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body must be a JSON object"


async def test_a_body_at_the_limit_is_taken_and_one_over_it_is_413(serve: Any) -> None:
    """S-06."""
    served = await serve(max_body_bytes=2000)
    padding = b"x" * (2000 - len(CHAT % b""))
    assert (
        await served.client.post("/v1/chat/completions", content=CHAT % padding)
    ).status_code == 200
    answer = await served.client.post("/v1/chat/completions", content=CHAT % (padding + b"x"))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert "2000 bytes" in answer.json()["error"]["message"]


async def test_a_chunked_body_over_the_limit_is_413(serve: Any) -> None:
    served = await serve(max_body_bytes=2000)

    async def pieces() -> Any:
        for _ in range(10):
            yield b"x" * 1000

    answer = await served.client.post("/v1/chat/completions", content=pieces())
    assert answer.status_code == 413


async def test_a_chunked_body_is_read(serve: Any) -> None:
    served = await serve()

    async def pieces() -> Any:
        for byte in CHAT % b"a b":
            yield bytes([byte])

    answer = await served.client.post("/v1/chat/completions", content=pieces())
    assert answer.json()["choices"][0]["message"]["content"] == "a b"


async def test_a_compressed_body_is_refused_with_the_reason(serve: Any) -> None:
    served = await serve()
    body = gzip.compress(b'{"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}')
    headers = {"content-encoding": "gzip"}
    answer = await served.client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert "send it as it is, not compressed" in answer.json()["error"]["message"]
    assert (await served.chat()).status_code == 200


async def test_fifty_megabytes_are_answered_within_a_second_while_others_are_served(
    serve: Any,
) -> None:
    served = await serve()
    body = b"x" * 50_000_000
    began = time.perf_counter()
    big = asyncio.create_task(served.client.post("/v1/chat/completions", content=body))
    assert (await served.client.get("/health/live")).status_code == 200
    assert (await big).status_code == 413
    assert time.perf_counter() - began < 5


async def test_a_body_that_drips_is_cut_at_the_deadline(serve: Any) -> None:
    """R-18."""
    served = await serve(body_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    began = time.perf_counter()
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    while not answer.done():
        writer.write(b" ")
        await asyncio.wait((answer,), timeout=0.02)
    assert answer.result().startswith(b"HTTP/1.1 408")
    assert 0.2 < time.perf_counter() - began < 3
    writer.close()


async def test_a_connection_whose_body_was_refused_does_not_stay_open(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER", 0.1)
    served = await serve(body_timeout=0.1, header_timeout=0.2)
    reply = await served.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n "
    )
    assert reply.startswith(b"HTTP/1.1 408")


async def test_a_body_that_nobody_asked_for_is_taken(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/models/tiny/load")):
        answer = await served.client.request(method, path, content=b"hello")
        assert answer.status_code == 200
        assert answer.headers["connection"] == "keep-alive"
    assert not [record for record in caplog.records if record.name.startswith("sanic")]


async def test_a_client_that_waits_for_100_continue_gets_it(serve: Any) -> None:
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    body = CHAT % b"a"
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
