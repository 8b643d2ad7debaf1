"""One mapper from errors to answers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from sanic import exceptions

import jarvis_core.errors
from jarvis_core.errors import (
    EngineDied,
    JarvisError,
    MethodNotAllowed,
    NotFound,
    QueueFull,
    RateLimited,
    RequestError,
)
from jarvis_core.http import errors

pytestmark = pytest.mark.anyio


def _classes(root: type[JarvisError]) -> list[type[JarvisError]]:
    own = [c for c in root.__subclasses__() if c.__module__ == jarvis_core.errors.__name__]
    return [root, *(found for child in own for found in _classes(child))]


@pytest.mark.parametrize("error_class", _classes(JarvisError))
def test_every_error_has_openais_body_and_its_status(error_class: type[JarvisError]) -> None:
    answer = errors.response(error_class("what, where, what to do", param="a[0].b"))
    assert answer.status == error_class.status_code
    assert json.loads(answer.body or b"") == {
        "error": {
            "message": "what, where, what to do",
            "type": error_class.type,
            "param": "a[0].b",
            "code": error_class.code,
        }
    }
    assert ("retry-after" in answer.headers) == (error_class.status_code in (429, 503))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (QueueFull("x"), "1"),
        (RateLimited("x", retry_after=0.01), "1"),
        (EngineDied("x", retry_after=2.5), "3"),
        (RequestError("x", retry_after=7), "7"),
    ],
)
def test_retry_after_is_whole_seconds(error: JarvisError, seconds: str) -> None:
    assert errors.response(error).headers["retry-after"] == seconds


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.NotFound("/secret"), NotFound),
        (exceptions.MethodNotAllowed("secret", "GET", ["POST"]), MethodNotAllowed),
        (exceptions.BadRequest("secret"), RequestError),
        (exceptions.URITooLong("secret"), RequestError),
    ],
)
def test_sanics_exceptions_become_ours_without_their_text(
    raised: Exception, expected: type[JarvisError]
) -> None:
    error = errors.from_exception(raised, request_id="r")
    assert type(error) is expected
    assert "secret" not in error.message


@pytest.mark.parametrize("raised", [KeyError("secret"), exceptions.ServerError("secret")])
def test_a_bug_tells_where_to_look_and_is_logged(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = errors.from_exception(raised, request_id="req-9")
    assert error.status_code == 500
    assert "req-9" in error.message
    assert "secret" not in error.message
    assert "req-9" in caplog.text
    assert type(raised).__name__ in caplog.text


async def test_an_unknown_path_is_404_and_a_wrong_method_405_with_allow(serve: Any) -> None:
    served = await serve()
    missing = await served.client.get("/v1/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
    wrong = await served.client.get("/v1/chat/completions")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert wrong.json()["error"]["code"] == "method_not_allowed"
    assert (await served.client.delete("/v1/models")).headers["allow"] == "GET, HEAD"


async def test_nothing_of_the_server_leaks_into_answers(serve: Any) -> None:
    """S-09."""
    served = await serve()
    for path in ("/nothing", "/v1/models/nothing", "/v1/chat/completions"):
        answer = await served.client.get(path)
        for word in ("Sanic", "Traceback", "File ", "python", "jarvis_core"):
            assert word not in answer.text
            assert word not in str(answer.headers)
