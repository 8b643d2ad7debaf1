"""Checks that requests of several routes share: limits of the server, tools, what can be forced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from jarvis_core.errors import RequestError
from jarvis_core.http.openai import constraint
from jarvis_core.http.openai.parameter_table import unsupported
from jarvis_core.http.openai.sampling import stop_strings
from jarvis_core.http.openai.wire import SamplingBody
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import ModelInfo, Tool, ToolChoice

EFFORTS = ("none", "low", "medium", "high")
"""How much a model may be asked to think."""

SCHEMAS = 16
"""As many of the largest schemas may all tools of a request have: to check more takes seconds."""

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


def items(value: Any) -> list[Any]:
    """A list that a client sent; nothing where it sent something else."""
    return value if isinstance(value, list) else []


def at_most(limit: int, value: Any, name: str) -> None:
    """Refuse a list that is too long, before its items are looked at.

    Raises:
        RequestError: It is.
    """
    if isinstance(value, list | tuple) and len(value) > limit:
        raise RequestError(f"{name} has {len(value)} items; at most {limit} are taken", param=name)


def check_stop(body: SamplingBody, settings: ServerSettings) -> None:
    """Refuse stop strings that are empty, too long or too many.

    Raises:
        RequestError: One is.
    """
    at_most(settings.max_stop, body.stop, "stop")
    for i, text in enumerate(stop_strings(body)):
        name = "stop" if isinstance(body.stop, str) else f"stop[{i}]"
        if not text:
            raise RequestError(f"{name} must not be empty", param=name)
        if len(text.encode()) > settings.max_stop_bytes:
            raise RequestError(
                f"{name} must have at most {settings.max_stop_bytes} bytes", param=name
            )


def check_top_logprobs(
    wanted: int | None, settings: ServerSettings, param: str = "top_logprobs"
) -> None:
    """Refuse more of the likeliest tokens than the server gives.

    Raises:
        RequestError: They are.
    """
    if wanted is not None and wanted > settings.max_logprobs:
        raise RequestError(f"{param} must be at most {settings.max_logprobs}", param=param)


def check_tools(
    names: Sequence[str],
    specs: Sequence[Mapping[str, Any]],
    settings: ServerSettings,
    *,
    name_at: str,
    paths: Sequence[str] | None = None,
) -> None:
    """Refuse tools whose names are odd or the same, or whose schemas are over the limits.

    Args:
        names: Their names.
        specs: The client's own objects.
        settings: The server's limits.
        name_at: Where a name is inside of such an object, for errors.
        paths: Where the tools are in the request, if not in a list.

    Raises:
        RequestError: ``param`` is the path of the fault.
    """
    seen, size = set(), 0
    for at, name, spec in zip(paths or _paths(names), names, specs, strict=True):
        param = f"{at}.{name_at}"
        if not _FUNCTION_NAME.match(name):
            raise RequestError(
                f"{param} may hold letters, digits, '_' and '-', at most 128", param=param
            )
        if name in seen:
            raise RequestError(f"{param} is the name of another tool too", param=param)
        seen.add(name)
        own = len(orjson.dumps(spec))
        if own > settings.max_schema_bytes:
            raise RequestError(
                f"{at} is over the limit of {settings.max_schema_bytes} bytes", param=at
            )
        size += own
        if size > (most := SCHEMAS * settings.max_schema_bytes):
            raise RequestError(
                f"tools are over the limit of {most} bytes for all of them", param="tools"
            )
        constraint.check_depth(spec, at)
        holder = name_at.rpartition(".")[0]
        function = spec[holder] if holder else spec
        _check_parameters(function, ".".join(filter(None, (at, holder))))


def _paths(tools: Sequence[Any]) -> list[str]:
    return [f"tools[{i}]" for i in range(len(tools))]


def _check_parameters(function: Mapping[str, Any], path: str) -> None:
    parameters = function.get("parameters")
    if parameters is None:
        return
    at = f"{path}.parameters"
    constraint.check_schema(parameters, at, strict=bool(function.get("strict")))
    types = parameters.get("type", "object")
    if types != "object" and "object" not in items(types):
        raise RequestError(
            f"{at}.type must be 'object': arguments are an object", param=f"{at}.type"
        )


def check_can_call(
    choice: ToolChoice,
    tools: Sequence[Tool],
    model: ModelInfo,
    *,
    strict_at: str,
    paths: Sequence[str] | None = None,
) -> None:
    """Refuse a forced call, or arguments that must obey their schema, where nothing enforces it.

    Args:
        choice: The tool choice.
        tools: The tools.
        model: The model.
        strict_at: Where ``strict`` is inside of a tool, for errors.
        paths: Where the tools are in the request, if not in a list.

    Raises:
        UnsupportedParameter: It names parameter, model and engine.
    """
    if "lark" in model.capabilities.constraints:
        return
    for at, tool in zip(paths or _paths(tools), tools, strict=True):
        if tool.strict:
            raise unsupported(f"{at}.{strict_at}", model, "its engine does not enforce grammars")
    if choice.forced:
        raise unsupported("tool_choice", model, "its engine cannot force a tool call")


def check_effort(effort: str | None, model: ModelInfo, *, param: str) -> None:
    """Refuse an effort that no chat format knows.

    Raises:
        UnsupportedParameter: It names parameter, model and engine.
    """
    if effort is not None and effort not in EFFORTS:
        raise unsupported(param, model, f"it takes {', '.join(EFFORTS)}, not {effort}")
