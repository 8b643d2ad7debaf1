"""Which web pages may call this server from a browser: none, unless their origins are listed.

Browsers keep other pages from reading what is answered, and from sending what a page may not, but
they do send a POST whose body is called text.
"""

from __future__ import annotations

import re

from sanic.request import Request

from jarvis_core.errors import PermissionDenied
from jarvis_core.http.responses import Response

EXPOSED = (
    "openai-processing-ms, request-id, retry-after, retry-after-ms, x-jarvis-ignored-params, "
    "x-jarvis-truncated-items, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    "x-ratelimit-reset-tokens, x-request-id"
)

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,1024}\Z")


_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


def check(request: Request, origins: tuple[str, ...]) -> None:
    """Refuse what a web page of another origin sends unasked.

    Raises:
        PermissionDenied: It is that.
    """
    origin = request.headers.getone("origin", "")
    if not origin or request.method in _HARMLESS or "*" in origins or origin in origins:
        return
    if origin.partition("://")[2] != request.headers.getone("host", ""):
        raise PermissionDenied(
            "a web page of another origin may not send this: list its origin in JARVIS_CORS_ORIGINS"
        )


def headers(request: Request, origins: tuple[str, ...]) -> dict[str, str]:
    """The headers that let the page of this request read the answer; none if it may not."""
    if not origins:
        return {}
    origin = request.headers.getone("origin", "")
    if "*" in origins:
        return {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}
    if origin not in origins:
        return {"vary": "Origin"}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": EXPOSED,
        "vary": "Origin",
    }


def preflight(request: Request, origins: tuple[str, ...]) -> Response | None:
    """The answer to a browser that asks first; None if this is no such question."""
    if request.method != "OPTIONS" or not origins:
        return None
    if not request.headers.getone("access-control-request-method", ""):
        return None
    allowed = headers(request, origins)
    if "access-control-allow-origin" in allowed:
        asked = request.headers.getone("access-control-request-headers", "")
        allowed["access-control-allow-methods"] = "GET, POST, DELETE"
        allowed["access-control-allow-headers"] = (
            asked if _HEADER_NAMES.match(asked) else "authorization, content-type"
        )
        allowed["access-control-max-age"] = "600"
    return Response(status=204, headers=allowed)
