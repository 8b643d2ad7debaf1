"""The tools of a Responses request, as a chat has them.

Functions may come in namespaces, as Codex groups those of an MCP server: the client knows such a
function by two names, the model by one.

Source: OpenAI's OpenAPI document of 2026 (NamespaceToolParam, FunctionToolCall).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.openai.limits import items
from jarvis_core.http.openai.responses.wire import (
    AllowedToolsBody,
    FunctionChoiceBody,
    ToolChoiceBody,
)
from jarvis_core.structs import Tool, ToolChoice

Namespaces = Mapping[str, tuple[str, str]]
"""Namespace and own name of functions that have one, by the name that the model knows."""

_KEYS = ("name", "description", "parameters", "strict")
_TOOL_CHOICES = ("function", "allowed_tools")  # no set: a client may send what cannot be hashed


@frozen(kw_only=True)
class Function:
    """A function that the model may call.

    Attributes:
        tool: It, as the model is shown it.
        at: Its path in the request.
        name: Its own name.
        namespace: What its client calls its group; empty where it has none.
    """

    tool: Tool
    at: str
    name: str
    namespace: str = ""


def full_name(name: str, namespace: str | None) -> str:
    """What the model calls a function."""
    between = "" if not namespace or namespace.endswith("__") else "__"
    return f"{namespace or ''}{between}{name}"


def count(raw: Any) -> int:
    """How many functions a list of tools has that is not checked yet."""
    return sum(len(items(tool.get("tools"))) if _is_namespace(tool) else 1 for tool in items(raw))


def check_kinds(raw: Any) -> None:
    """Refuse tools that OpenAI's servers call themselves, with more than that they are not known.

    Args:
        raw: The client's list, which is not checked yet.

    Raises:
        UnsupportedParameter: There is one.
    """
    for i, tool in enumerate(items(raw)):
        inner = items(tool.get("tools")) if _is_namespace(tool) else ()
        for at, one in ((f"tools[{i}]", tool), *_placed(f"tools[{i}].tools", inner)):
            kinds = ("function", "namespace") if one is tool else ("function",)
            if isinstance(one, dict) and one.get("type", "function") not in kinds:
                allowed = " or ".join(map(repr, kinds))
                raise UnsupportedParameter(
                    f"{at}.type must be {allowed}: this server calls no tools itself, it tells "
                    "your application which function to call",
                    param=f"{at}.type",
                )


def check_kind_of_choice(raw: Any) -> None:
    """Refuse the choice of a tool that OpenAI's servers call themselves.

    Raises:
        UnsupportedParameter: It is one.
    """
    if isinstance(raw, dict) and raw.get("type", "function") not in _TOOL_CHOICES:
        raise UnsupportedParameter(
            "tool_choice.type must be 'function' or 'allowed_tools': this server calls no tools "
            "itself",
            param="tool_choice.type",
        )


def functions(raw: Sequence[Mapping[str, Any]]) -> Iterator[Function]:
    """The functions of a list that is checked, those of namespaces among the others."""
    for at, spec in _placed("tools", raw):
        if not _is_namespace(spec):
            yield Function(tool=_tool(spec), at=at, name=spec["name"])
            continue
        for k, (inner_at, inner) in enumerate(_placed(f"{at}.tools", spec["tools"])):
            told = spec.get("description") if k == 0 else None
            yield Function(
                tool=_tool(_in_namespace(inner, spec["name"], told)),
                at=inner_at,
                name=inner["name"],
                namespace=spec["name"],
            )


def check_choice(choice: ToolChoiceBody | None, tools: Sequence[Tool]) -> None:
    """Refuse the choice of a tool that there is not.

    Raises:
        RequestError: It is one.
    """
    names = {tool.name for tool in tools}
    wanted: list[tuple[str, str]] = []
    if isinstance(choice, FunctionChoiceBody):
        wanted = [("tool_choice.name", choice.name)]
    elif isinstance(choice, AllowedToolsBody):
        wanted = [(f"tool_choice.tools[{i}].name", t.name) for i, t in enumerate(choice.tools)]
    for param, name in wanted:
        if name not in names:
            raise RequestError(f"{param} is not the name of a tool of this request", param=param)
    if choice == "required" and not names:
        raise RequestError("tool_choice is 'required' and there are no tools", param="tool_choice")


def choose(
    choice: ToolChoiceBody | None, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that the model is shown, and what it may do with them."""
    match choice:
        case FunctionChoiceBody(name=name):
            return tools, ToolChoice(mode="named", name=name)
        case AllowedToolsBody(tools=allowed, mode=mode):
            names = {tool.name for tool in allowed}
            return tuple(t for t in tools if t.name in names), ToolChoice(mode=mode)
        case "none" | "auto" | "required" as mode:
            return tools, ToolChoice(mode=mode)
    return tools, ToolChoice()


def _is_namespace(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "namespace"


def _placed(path: str, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for i, value in enumerate(values):
        yield f"{path}[{i}]", value


def _in_namespace(spec: Mapping[str, Any], namespace: str, told: str | None) -> Mapping[str, Any]:
    """A function under its full name; the first one tells what there is to know of them all."""
    named = {**spec, "name": full_name(spec["name"], namespace)}
    if told:
        own = spec.get("description")
        named["description"] = f"{namespace}: {told}" + (f"\n\n{own}" if own else "")
    return named


def _tool(spec: Mapping[str, Any]) -> Tool:
    function = {k: v for k, v in spec.items() if k in _KEYS and v is not None}
    return Tool(spec={"type": "function", "function": function})
