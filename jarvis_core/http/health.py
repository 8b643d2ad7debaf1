"""What monitoring asks: whether the process answers, whether its models do, and the metrics."""

from __future__ import annotations

from prometheus_client import generate_latest

from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.metrics import core_version
from jarvis_core.http.responses import Response, json


async def live(front: Front, exchange: Exchange) -> Response:
    """200 as long as the process answers."""
    return json({"status": "ok"})


async def ready(front: Front, exchange: Exchange) -> Response:
    """200 if every model that should be loaded is, else 503."""
    return _response(_state(front), {})


async def report(front: Front, exchange: Exchange) -> Response:
    """Whether the server is ready, with every model's state."""
    models = {
        status.name: {
            "state": status.state.value,
            "healthy": status.healthy,
            "requests": status.requests,
            "error": status.error,
        }
        for status in front.catalogue.statuses()
    }
    return _response(_state(front), {"models": models, "version": core_version()})


def _state(front: Front) -> str:
    if front.exchanges.draining:
        return "draining"
    return "ready" if front.catalogue.ready() else "unready"


def _response(state: str, details: dict[str, object]) -> Response:
    ok = state == "ready"
    return json(
        {"status": state, **details},
        status=200 if ok else 503,
        headers={} if ok else {"retry-after": "1"},
    )


async def metrics(front: Front, exchange: Exchange) -> Response:
    """All metrics as Prometheus text."""
    return Response(
        generate_latest(front.metrics.registry),
        content_type="text/plain; version=0.0.4; charset=utf-8",
    )
