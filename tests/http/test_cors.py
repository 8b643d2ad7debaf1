"""Cross-origin requests: off unless origins are listed."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

PAGE = "https://page.example"
ASK = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,x-stainless-os",
}


async def test_nothing_is_allowed_by_default(serve: Any) -> None:
    served = await serve()
    answer = await served.client.get("/v1/models", headers={"origin": PAGE})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await served.client.options("/v1/models", headers=ASK)).status_code == 405


async def test_a_listed_origin_may_ask_and_read(serve: Any) -> None:
    served = await serve(cors_origins=(PAGE,), api_key="k")
    asked = await served.client.options("/v1/chat/completions", headers=ASK)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    for headers, status in (({}, 401), ({"authorization": "Bearer k"}, 200)):
        answer = await served.client.get("/v1/models", headers={"origin": PAGE, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"request-id", "x-request-id", "retry-after-ms"} <= {*exposed}


async def test_a_stream_can_be_read_by_a_listed_origin(serve: Any) -> None:
    served = await serve(cors_origins=(PAGE,))
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "stream": True}
    answer = await served.client.post("/v1/chat/completions", json=body, headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_another_origin_may_not(serve: Any) -> None:
    served = await serve(cors_origins=(PAGE,))
    headers = {**ASK, "origin": "https://evil.example"}
    asked = await served.client.options("/v1/chat/completions", headers=headers)
    assert "access-control-allow-origin" not in asked.headers
    answer = await served.client.get("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_a_star_allows_every_origin(serve: Any) -> None:
    served = await serve(cors_origins=("*",))
    answer = await served.client.get("/v1/models", headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_odd_header_names_are_not_echoed(serve: Any) -> None:
    served = await serve(cors_origins=(PAGE,))
    headers = {**ASK, "access-control-request-headers": "a<script>"}
    asked = await served.client.options("/v1/chat/completions", headers=headers)
    assert asked.headers["access-control-allow-headers"] == "authorization, content-type"


async def test_without_keys_what_a_page_of_another_origin_sends_unasked_is_refused(
    serve: Any,
) -> None:
    served = await serve()
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "a"}]}'

    async def status(origin: str | None) -> int:
        headers = {"content-type": "text/plain"} | ({"origin": origin} if origin else {})
        answer = await served.client.post("/v1/chat/completions", content=body, headers=headers)
        if answer.status_code == 403:
            assert "JARVIS_CORS_ORIGINS" in answer.json()["error"]["message"]
        return int(answer.status_code)

    own = str(served.client.base_url).rstrip("/")
    found = [await status(origin) for origin in (PAGE, "null", own, None)]
    assert found == [403, 403, 200, 200]


async def test_a_listed_origin_or_a_star_may_send_without_keys(serve: Any) -> None:
    for origins in ((PAGE,), ("*",)):
        served = await serve(cors_origins=origins)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
        answer = await served.client.post(
            "/v1/chat/completions", json=body, headers={"origin": PAGE}
        )
        assert answer.status_code == 200
