"""A request's body: read in time, within the limit, and parsed as strict JSON."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import orjson
from sanic.http import Http
from sanic.request import Request

from jarvis_core.errors import BodyTooLarge, RequestError, SlowRequest
from jarvis_core.http.protocol import connection_of
from jarvis_core.settings import ServerSettings

LARGE = 256 * 1024
"""Bytes from which a body is looked at before it is parsed."""

MAX_VALUES = 1_000_000
"""Brackets and commas in a body: 32 MiB of ``[],[],`` would take seconds to parse."""


async def read_json(request: Request, settings: ServerSettings) -> dict[str, Any]:
    """The JSON object that a client sent.

    Raises:
        BodyTooLarge: It is over the limit.
        SlowRequest: It did not come in time.
        RequestError: It is compressed, not strict JSON, or not an object.
    """
    _check_coding(request)
    return _an_object(parse(await _read(request, settings)))


async def read_optional_json(request: Request, settings: ServerSettings) -> dict[str, Any]:
    """The JSON object that a client sent, empty if it sent nothing.

    Raises:
        BodyTooLarge: It is over the limit.
        SlowRequest: It did not come in time.
        RequestError: It is compressed, not strict JSON, or not an object.
    """
    _check_coding(request)
    body = await _read(request, settings)
    return _an_object(parse(body)) if body else {}


async def discard(request: Request, settings: ServerSettings) -> None:
    """Take a body that nobody asked for, so that the connection can go on.

    Raises:
        BodyTooLarge: It is over the limit.
        SlowRequest: It did not come in time.
    """
    if isinstance(request.stream, Http) and request.stream.request_body:
        await _read(request, settings)


def _check_coding(request: Request) -> None:
    if request.headers.getone("content-encoding", "identity").lower() != "identity":
        raise RequestError("the body has a Content-Encoding: send it as it is, not compressed")


async def _read(request: Request, settings: ServerSettings) -> bytes:
    stream = request.stream
    assert isinstance(stream, Http)
    limit = settings.max_body_bytes
    declared = request.headers.getone("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_timeout):
            async for part in stream:
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise SlowRequest(
            f"the body did not arrive within {settings.body_timeout:g} seconds"
        ) from None
    connection_of(request).body_read()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _an_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over the limit of {limit} bytes")


def parse(body: bytes) -> Any:
    """Parse strict JSON: UTF-8, no NaN, no Infinity, no lone surrogates, at most 1,024 deep.

    Raises:
        RequestError: It is not that; the message says where, and quotes nothing.
    """
    if not body:
        raise RequestError("the body is empty; send a JSON object")
    try:
        return _parse_large(body) if len(body) > LARGE else orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error.msg} at byte {error.pos}") from None


def _parse_large(body: bytes) -> Any:
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > MAX_VALUES:
        raise RequestError(
            f"the body has {values} brackets and commas; at most {MAX_VALUES} are taken"
        )
    collecting = gc.isenabled()
    gc.disable()  # every value is reachable: collecting meanwhile would only take long
    try:
        return orjson.loads(body)
    finally:
        if collecting:
            gc.enable()
