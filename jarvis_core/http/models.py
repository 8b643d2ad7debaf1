"""The models and their adapters: listed, shown one by one, loaded and unloaded."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from jarvis_core.errors import MethodNotAllowed
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.responses import Response, json
from jarvis_core.models.status import ModelState, ModelStatus


async def listing(front: Front, exchange: Exchange) -> Response:
    """Every configured model, each followed by its LoRA adapters."""
    shown = []
    for status in front.catalogue.statuses():
        shown.append(_model(status))
        shown += [_adapter(status, adapter) for adapter in status.adapters]
    return json({"object": "list", "data": shown})


async def retrieve(front: Front, exchange: Exchange, name: str) -> Response:
    """One model or adapter, by name or alias; names may hold slashes."""
    name = unquote(name)
    status = front.catalogue.status(name)
    if name in status.adapters:
        return json(_adapter(status, name) | _endpoints(front, status, frozenset({"generate"})))
    return json(_model(status) | _endpoints(front, status))


async def change(front: Front, exchange: Exchange, name: str) -> Response:
    """Load or unload a model, whichever the path ends in."""
    model, _, action = name.rpartition("/")
    model = unquote(model)
    if model and action == "load":
        exchange.model = front.catalogue.status(model).name
        return json(_model(await front.catalogue.load(model)))
    if model and action == "unload":
        exchange.model = front.catalogue.status(model).name
        return json(_model(await front.catalogue.unload(model)))
    raise _NoSuchAction()


class _NoSuchAction(MethodNotAllowed):
    """POST on the path of a model itself."""

    def __init__(self) -> None:
        super().__init__("a model takes POST at /load and /unload below its path")
        self.headers = {"Allow": "GET, HEAD"}


def _model(status: ModelStatus) -> dict[str, Any]:
    """OpenAI's keys first, then ours."""
    shown: dict[str, Any] = {
        "id": status.name,
        "object": "model",
        "created": status.created,
        "owned_by": "jarvis",
        "parent": None,
        "aliases": status.aliases,
        "engine": status.engine,
        "source": status.source,
        "chat_format": status.chat_format,
        "chat_format_reason": status.chat_format_reason,
        "state": status.state.value,
        "healthy": status.healthy,
        "context_length": status.context_length,
        "error": status.error,
    }
    if status.state is ModelState.LOADING:
        shown["loading"] = {
            "bytes_done": status.loaded_bytes,
            "bytes_total": status.total_bytes,
        }
    if status.info is not None:
        capabilities = status.info.capabilities
        shown["capabilities"] = {
            "tasks": sorted(capabilities.tasks),
            "constraints": sorted(capabilities.constraints),
            "media": sorted(capabilities.media),
        }
        shown["parameters"] = PARAMETERS.honoured(capabilities)
    return shown


def _adapter(status: ModelStatus, adapter: str) -> dict[str, Any]:
    """A LoRA adapter: a model of its own to clients, whose parent does the work."""
    return {**_model(status), "id": adapter, "parent": status.name, "aliases": ()}


def _endpoints(
    front: Front, status: ModelStatus, tasks: frozenset[str] | None = None
) -> dict[str, Any]:
    """What becomes of every known parameter, at each endpoint that a loaded model can serve.

    Args:
        front: The front door.
        status: The model.
        tasks: What is asked of it; None is all that it can do.
    """
    if status.info is None:
        return {}
    capabilities = status.info.capabilities
    served = capabilities.tasks if tasks is None else capabilities.tasks & tasks
    return {
        "endpoints": {
            route.path: route.parameters.outcomes(capabilities)
            for route in front.routes
            if route.parameters is not None and (not route.task or route.task in served)
        }
    }
