"""Loading the one model of a host: its plugin, its settings, its weights, its chat format."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import cattrs
from attrs import evolve

from jarvis_core.errors import ConfigError
from jarvis_core.host.loaded import Loaded
from jarvis_core.host.protocol import HostPlan, converter
from jarvis_core.host.weights import locate
from jarvis_core.interfaces import (
    ChatFormat,
    Embedder,
    Engine,
    EngineType,
    PrefixCache,
    Reranker,
    Sleeper,
)
from jarvis_core.plugins import Detection, Registry, load_plugins, media_of
from jarvis_core.settings import structure_settings
from jarvis_core.structs import FormatContext, ModelInfo, ModelSpec
from jarvis_core.template.source import read_template
from jarvis_core.tool_telling import ToolTelling, tells_tools

_log = logging.getLogger(__name__)

_METHODS = ("generate", "tokenize", "detokenize", "stats", "aclose")
_TASKS: Mapping[str, type] = {
    "embed": Embedder,
    "rerank": Reranker,
    "sleep": Sleeper,
    "prefix_cache_reset": PrefixCache,
}
"""The protocol of each task but ``generate``, which every engine has a method for."""


async def load_model(
    plan: HostPlan, on_progress: Callable[[int, int], None]
) -> tuple[Loaded, Detection]:
    """Load a model; its chat format comes with the reason for it.

    Args:
        plan: What to load and how.
        on_progress: Called with bytes downloaded and bytes to download.

    Raises:
        ConfigError: It cannot be loaded.
    """
    registry = load_plugins()
    engine_type = registry.engine(plan.engine)
    package = engine_type.load.__module__.split(".")[0]
    logging.getLogger(package).setLevel(logging.getLogger("jarvis_core").level)
    if plan.chat_format != "auto":
        registry.chat_format(plan.chat_format)
    settings = structure_settings(
        engine_type.settings, plan.settings, where=f"models.{plan.name}.settings"
    )
    template = plan.chat_template and read_template(plan.chat_template)
    path = await locate(plan.source, engine_type.weights, on_progress)
    spec = ModelSpec(
        name=plan.name,
        source=plan.source,
        path=path,
        context_length=plan.context_length,
        adapters=plan.adapters,
    )
    engine = await _loaded(engine_type, spec, settings)
    info = engine.info
    if template is not None:
        info = evolve(info, chat_template=template)
    found = _choose_format(plan, registry, info)
    chat_format = registry.chat_format(found.name)
    media = media_of(chat_format, info)
    if lost := info.capabilities.media - media:
        _log.warning(
            "model %r takes %s, and its chat format %r has no place for that",
            *(plan.name, ", ".join(sorted(lost)), chat_format.name),
        )
    info = evolve(info, capabilities=evolve(info.capabilities, media=media))
    if telling := await asyncio.to_thread(_telling, chat_format, info):
        chat_format = telling
        why = f"{found.reason}; it prints no tools: they are told in the system text"
        found = evolve(found, reason=why)
    return Loaded(engine=engine, chat_format=chat_format, info=info), found


async def _loaded(engine_type: EngineType, spec: ModelSpec, settings: Any) -> Engine:
    """The engine, if it is one.

    Raises:
        ConfigError: It is none, and what it lacks; or what ``load`` raises.
    """
    loading = engine_type.load(spec, settings)
    if not inspect.isawaitable(loading):
        raise ConfigError(f"load of engine {engine_type.name!r} has to be a coroutine function")
    engine = await loading
    if fault := _fault(engine):
        raise ConfigError(f"load of engine {engine_type.name!r} gave no whole engine: {fault}")
    return engine


def _fault(engine: Any) -> str:
    """What keeps an object from being an engine, empty if nothing does."""
    if engine is None:
        return "it returned None; is a return missing?"
    lacking = [method for method in _METHODS if not callable(getattr(engine, method, None))]
    if lacking:
        return f"{type(engine).__name__} has no method {', '.join(lacking)}"
    info = getattr(engine, "info", None)
    if not isinstance(info, ModelInfo):
        return f"its info is {type(info).__name__}, not a ModelInfo"
    try:
        converter.structure(converter.unstructure(info), ModelInfo)
    except Exception as error:
        return "its info is wrong: " + "; ".join(cattrs.transform_error(error, path="info"))
    for task in sorted(info.capabilities.tasks):
        protocol = _TASKS.get(task)
        if protocol is not None and not isinstance(engine, protocol):
            return f"its capabilities name the task {task}, and it is no {protocol.__name__}"
    return ""


def _telling(chat_format: ChatFormat, info: ModelInfo) -> ToolTelling | None:
    """What tells the tools in place of a model's format, where that does not print them."""
    if "generate" not in info.capabilities.tasks:
        return None
    return tells_tools(chat_format, FormatContext(model=info, now=datetime.now()))


def _choose_format(plan: HostPlan, registry: Registry, info: ModelInfo) -> Detection:
    """The chat format that is set, or that prints the template that is set, or that fits."""
    if plan.chat_format != "auto":
        return Detection(name=plan.chat_format, reason="chat_format is set to it")
    if plan.chat_template:
        return Detection(name="template", reason="chat_template is set")
    return registry.detect_chat_format(info)
