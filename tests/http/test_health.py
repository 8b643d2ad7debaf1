"""Live, ready, and the report."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def test_live_says_that_the_process_answers(serve: Any) -> None:
    served = await serve()
    served.catalogue.is_ready = False
    assert (await served.client.get("/health/live")).json() == {"status": "ok"}


async def test_ready_follows_the_models(serve: Any) -> None:
    served = await serve()
    assert (await served.client.get("/health/ready")).json() == {"status": "ready"}
    served.catalogue.is_ready = False
    answer = await served.client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unready"}
    assert answer.headers["retry-after"] == "1"


async def test_the_report_has_every_model(serve: Any, kit: Any) -> None:
    served = await serve(kit.make_model(), kit.make_model("other", error="it died"))
    report = (await served.client.get("/health")).json()
    assert report["status"] == "ready"
    assert report["version"]
    assert report["models"] == {
        "tiny": {"state": "ready", "healthy": True, "requests": 3, "error": None},
        "other": {"state": "ready", "healthy": True, "requests": 3, "error": "it died"},
    }


async def test_head_answers_without_a_body(serve: Any) -> None:
    served = await serve()
    answer = await served.client.head("/health/ready")
    assert answer.status_code == 200
    assert answer.content == b""


async def test_while_draining_ready_is_503_at_once_and_new_work_is_refused(serve: Any) -> None:
    """R-07."""
    served = await serve()
    assert (await served.client.get("/health/live")).headers["connection"] == "keep-alive"
    served.front.exchanges.drain()
    ready = await served.client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json() == {"status": "draining"}
    assert ready.headers["connection"] == "close"
    refused = await served.chat()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_unavailable"
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["connection"] == "close"
    for path in ("/health/live", "/metrics"):
        assert (await served.client.get(path)).status_code == 200
