"""The models and their adapters: listed, shown one by one, loaded, put to sleep, unloaded."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote

from attrs import frozen

from jarvis_core.errors import MethodNotAllowed
from jarvis_core.http.body import read_optional_json
from jarvis_core.http.converter import Between, structurer
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameter_table import ParameterTable, core, ignored_header
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.responses import Response, json
from jarvis_core.models.status import ModelState, ModelStatus


@frozen(kw_only=True)
class SleepBody:
    """The body of POST /v1/models/{name}/sleep, which may be left out."""

    level: Annotated[int, Between(1, 2)] = 1


SLEEP_PARAMETERS = ParameterTable(
    core("level", "that can sleep: 1, the default, keeps the weights in RAM, 2 drops them"),
)

_structure_sleep = structurer(SleepBody)

_SHORT_NUMBER = re.compile(r"[0-9]{1,9}\Z")


async def listing(front: Front, exchange: Exchange) -> Response:
    """Every configured model, each followed by its LoRA adapters."""
    shown = []
    for status in front.catalogue.statuses():
        shown.append(_model(status))
        shown += [_adapter(status, adapter) for adapter in status.adapters]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    page = {"has_more": False, "first_id": first, "last_id": last}  # Anthropic's
    return json({"object": "list", "data": shown, **page})


async def retrieve(front: Front, exchange: Exchange, name: str) -> Response:
    """One model or adapter, by name or alias; names may hold slashes."""
    name = unquote(name)
    status = front.catalogue.status(name)
    if name in status.adapters:
        return json(_adapter(status, name) | _endpoints(front, status, frozenset({"generate"})))
    return json(_model(status) | _endpoints(front, status))


async def load(front: Front, exchange: Exchange, name: str) -> Response:
    """Make a model ready: load it if it is cold or failed, wake it if it is asleep."""
    return json(_model(await front.catalogue.load(name)))


async def unload(front: Front, exchange: Exchange, name: str) -> Response:
    """Let a model's requests end, then end its process; the next request loads it again."""
    return json(_model(await front.catalogue.unload(name)))


async def sleep(front: Front, exchange: Exchange, name: str) -> Response:
    """Let a model's requests end, then give its memory back; the next request wakes it.

    Its process stays, so that waking is no loading. The level may stand in the query instead.
    """
    raw = await read_optional_json(exchange.request, front.settings)
    level = exchange.request.args.get("level")
    if level is not None:
        raw.setdefault("level", int(level) if _SHORT_NUMBER.match(level) else level)
    status = await front.catalogue.sleep(name, _structure_sleep(raw).level)
    return json(_model(status), headers=ignored_header(SLEEP_PARAMETERS.ignored(raw)))


async def wake(front: Front, exchange: Exchange, name: str) -> Response:
    """Wake a sleeping model; one that is ready stays so."""
    return json(_model(await front.catalogue.wake(name)))


async def reset_prefix_cache(front: Front, exchange: Exchange, name: str) -> Response:
    """Let a ready model forget every cached prefix; what runs goes on."""
    return json(_model(await front.catalogue.reset_prefix_cache(name, exchange.id)))


ACTIONS: Mapping[str, Callable[[Front, Exchange, str], Awaitable[Response]]] = {
    action.__name__: action for action in (load, unload, sleep, wake, reset_prefix_cache)
}
"""What can be done to a model, by the end of the path."""


async def change(front: Front, exchange: Exchange, name: str) -> Response:
    """Do to a model what the path ends in."""
    model, _, action = name.rpartition("/")
    model = unquote(model)
    if not model or action not in ACTIONS:
        raise _NoSuchAction()
    exchange.route = f"{exchange.route}/{action}"
    exchange.model = front.catalogue.status(model).name
    return await ACTIONS[action](front, exchange, model)


class _NoSuchAction(MethodNotAllowed):
    """POST on the path of a model itself."""

    def __init__(self) -> None:
        *some, last = (f"/{action}" for action in ACTIONS)
        super().__init__(f"a model takes POST at {', '.join(some)} and {last} below its path")
        self.headers = {"Allow": "GET, HEAD"}


def _model(status: ModelStatus) -> dict[str, Any]:
    """OpenAI's keys first, then Anthropic's, then ours."""
    shown: dict[str, Any] = {
        "id": status.name,
        "object": "model",
        "created": status.created,
        "owned_by": "jarvis",
        **_anthropics(status.name, status.created),
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
        shown["sampling"] = {
            name: {"value": default.value, "from": default.origin}
            for name, default in status.sampling.items()
        }
    return shown


def _adapter(status: ModelStatus, adapter: str) -> dict[str, Any]:
    """A LoRA adapter: a model of its own to clients, whose parent does the work."""
    own = {"id": adapter, **_anthropics(adapter, status.created)}
    return {**_model(status), **own, "parent": status.name, "aliases": ()}


def _anthropics(name: str, created: int) -> dict[str, Any]:
    """What Anthropic's clients want to know of a model."""
    moment = datetime.fromtimestamp(created, UTC)
    return {"type": "model", "display_name": name, "created_at": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}


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
