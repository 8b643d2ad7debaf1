"""Answers that are not streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sanic.response import HTTPResponse

JSON = "application/json"


class Response(HTTPResponse):
    """Sanic's response without the empty header ``alt-svc`` that Sanic adds to every one."""

    @property
    def processed_headers(self) -> Iterator[tuple[bytes, bytes]]:
        """The headers as bytes."""
        self.headers.pop("alt-svc", None)
        return super().processed_headers


def json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is JSON.

    Args:
        value: What orjson can write, or bytes that are JSON already.
        status: Status code.
        headers: Further headers.
    """
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return Response(body, status=status, headers=dict(headers or {}), content_type=JSON)
