"""Errors as HTTP answers, in OpenAI's shape. The one place that maps them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from http import HTTPStatus

import orjson
from sanic import exceptions

from jarvis_core.errors import (
    BodyTooLarge,
    InvalidApiKey,
    JarvisError,
    MethodNotAllowed,
    NotFound,
    RequestError,
    SlowRequest,
)
from jarvis_core.http.responses import JSON, Response, json

_log = logging.getLogger(__name__)

RETRY_AFTER = 1
"""Seconds that a client is told to wait where the error does not know better."""


class InternalError(JarvisError):
    """A bug: the client learns nothing but where to look."""

    code = "internal_error"


def body(error: JarvisError) -> bytes:
    """The JSON of an error."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def headers(error: JarvisError) -> dict[str, str]:
    """Headers that belong to an error."""
    found = {}
    if error.status_code in (429, 503) or error.retry_after is not None:
        seconds = error.retry_after or RETRY_AFTER
        found["retry-after"] = str(max(1, math.ceil(seconds)))
        found["retry-after-ms"] = str(math.ceil(seconds * 1000))  # OpenAI's SDKs read it first
    if isinstance(error, InvalidApiKey):
        found["www-authenticate"] = "Bearer"
    return found


def response(error: JarvisError, write: Callable[[JarvisError], bytes] = body) -> Response:
    """The answer that tells a client about an error."""
    return json(write(error), status=error.status_code, headers=headers(error))


def raw(error: JarvisError) -> bytes:
    """The whole answer as bytes, for a connection on which no request was read."""
    content = body(error)
    fields = {
        **headers(error),
        "content-type": JSON,
        "content-length": str(len(content)),
        "connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    phrase = HTTPStatus(error.status_code).phrase
    return f"HTTP/1.1 {error.status_code} {phrase}\r\n{head}\r\n".encode() + content


def from_exception(exception: BaseException, *, request_id: str) -> JarvisError:
    """The error behind anything that was raised; what nobody foresaw is logged as a bug."""
    if isinstance(exception, JarvisError):
        return exception
    if (
        isinstance(exception, exceptions.SanicException)
        and (known := _from_sanic(exception)) is not None
    ):
        return known
    _log.error("internal error in request %s", request_id, exc_info=exception)
    return InternalError(
        f"internal error; the server's log has the details under request id {request_id}"
    )


def _from_sanic(exception: exceptions.SanicException) -> JarvisError | None:
    if isinstance(exception, exceptions.MethodNotAllowed):
        return MethodNotAllowed(
            "this path does not allow that method; the header Allow lists those that it does"
        )
    if isinstance(exception, exceptions.NotFound):
        return NotFound("no such path; the API is under /v1, for example /v1/chat/completions")
    if isinstance(exception, exceptions.PayloadTooLarge):
        return BodyTooLarge("the headers or the body are over the limit")
    if isinstance(exception, exceptions.RequestTimeout):
        return SlowRequest("the request's headers did not arrive in time")
    status = getattr(exception, "status_code", 500)
    if 400 <= status < 500:
        return RequestError("the request is not valid HTTP")
    return None


def allow(exception: BaseException) -> dict[str, str]:
    """The header ``Allow`` where Sanic knows which methods a path has."""
    found = getattr(exception, "headers", None) or {}
    methods = sorted(found.get("Allow", "").split(", "))
    return {"allow": ", ".join(methods)} if any(methods) else {}
