"""Check a chat format against golden cases: render one, parse one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from attrs import evolve

from jarvis_core.chat import AnswerReader, Fold, prompt_of
from jarvis_core.errors import RequestError
from jarvis_core.interfaces import ChatFormat
from jarvis_core.plugins import Registry, load_plugins
from jarvis_core.structs import (
    ChatRequest,
    EngineOutput,
    FormatContext,
    MediaPart,
    Message,
    ModelInfo,
    Part,
    Prompt,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)
from jarvis_core.testing.format_samples import sent_back

_FIXED_DATE = "2025-01-02"
_ANY_TOOL = ("tool",)


def render_case(format_name: str, case: Mapping[str, Any]) -> str:
    """The prompt that a format makes of a golden case.

    Args:
        format_name: Name of a registered format.
        case: ``messages``, and perhaps ``tools``, ``kwargs``, and what the file says of all of its
            cases: ``model``, ``bos_token``, ``eos_token``, ``fixed_date``. ``chat_template`` is the
            template of that model.

    Raises:
        RequestError: The format refuses the conversation.
        PluginError: There is no such format.
    """
    return render_with(_registry().chat_format(format_name), case)


def parse_case(format_name: str, case: Mapping[str, Any], chunks: Iterable[str]) -> dict[str, Any]:
    """What a format makes of a model's answer, the way the server does it.

    Args:
        format_name: Name of a registered format.
        case: ``engine_finish``, and perhaps ``tools`` (False: the request has none),
            ``tools_declared``, ``starts_in_reasoning``, ``model``.
        chunks: The raw answer, cut anyhow.

    Returns:
        ``content``, ``reasoning``, ``tool_calls`` (``name``, ``arguments`` as JSON text, ``id``),
        ``finish_reason``.

    Raises:
        PluginError: There is no such format.
    """
    return parse_with(_registry().chat_format(format_name), case, chunks)


def send_back(format_name: str, answer: Mapping[str, Any]) -> list[str]:
    """The prompts of clients that go on from an answer, the way the server makes them.

    Args:
        format_name: Name of a registered format.
        answer: What ``parse_case`` gave.

    Raises:
        RequestError: The format refuses what it has read itself.
        PluginError: There is no such format.
    """
    chat_format, context = _registry().chat_format(format_name), _context(format_name, {})
    return [prompt_of(request, chat_format, context).text for request in sent_back(answer)]


def render_with(chat_format: ChatFormat, case: Mapping[str, Any]) -> str:
    """``render_case`` for a format that is at hand.

    Its attribute ``reasoning_key``, if it has one, is what the publisher's template calls the
    reasoning of a message; ``reasoning_content`` is usual.
    """
    kwargs = dict(case.get("kwargs") or {})
    generation = bool(kwargs.pop("add_generation_prompt", False))
    continued = bool(kwargs.pop("continue_final_message", False))
    if generation and continued:
        raise RequestError(
            "add_generation_prompt and continue_final_message exclude each other",
            param="continue_final_message",
        )
    key = getattr(chat_format, "reasoning_key", None)
    named = (key,) if key else ("reasoning_content", "reasoning")
    request = ChatRequest(
        model=chat_format.name,
        messages=tuple(_message(message, named) for message in case["messages"]),
        tools=_tools(case.get("tools")),
        template_kwargs=kwargs,
        add_generation_prompt=generation,
        continue_final_message=continued,
    )
    return chat_format.render(request, _context(chat_format.name, case)).text


def parse_with(
    chat_format: ChatFormat, case: Mapping[str, Any], chunks: Iterable[str]
) -> dict[str, Any]:
    """``parse_case`` for a format that is at hand."""
    names = case.get("tools_declared") or _ANY_TOOL
    request = ChatRequest(
        model=chat_format.name,
        messages=(Message(role="user", content="Hello"),),
        tools=() if case.get("tools") is False else tuple(map(_tool_named, names)),
    )
    prompt = Prompt(starts_in_reasoning=bool(case.get("starts_in_reasoning")))
    context = _context(chat_format.name, case)
    reader = AnswerReader(0, chat_format.parser(request, context, prompt))
    outputs = [EngineOutput(text=chunk) for chunk in chunks]
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    outputs.append(EngineOutput(finish_reason=case.get("engine_finish", "stop"), usage=usage))
    whole = Fold()
    for output in outputs:
        for delta in reader.read(output):
            whole.add(delta)
    answer = whole.completion().answers[0]
    return {
        "content": answer.content,
        "reasoning": answer.reasoning,
        "tool_calls": [
            {"name": call.name, "arguments": call.arguments, "id": call.id}
            for call in answer.tool_calls
        ],
        "finish_reason": answer.finish_reason,
    }


@cache
def _registry() -> Registry:
    return load_plugins()


def _context(format_name: str, case: Mapping[str, Any]) -> FormatContext:
    model = ModelInfo(
        name=format_name,
        source=case.get("model") or format_name,
        engine="none",
        context_length=131072,
        chat_template=case.get("chat_template"),
        bos_token=case.get("bos_token"),
        eos_token=case.get("eos_token"),
    )
    date = case.get("fixed_date") or _FIXED_DATE
    return FormatContext(model=model, now=datetime.fromisoformat(date))


class _GivenTools(tuple[Tool, ...]):
    """A list of tools that was given, though it may be empty: some templates print even that.

    A server passes no tools for an empty list, so only golden cases have one.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def _tools(specs: Iterable[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    return () if specs is None else _GivenTools(Tool(spec=spec) for spec in specs)


def _tool_named(name: str) -> Tool:
    return Tool(spec={"type": "function", "function": {"name": name}})


def _message(wire: Mapping[str, Any], reasoning_keys: Iterable[str]) -> Message:
    message = Message(
        role=wire["role"],
        content=_content(wire.get("content")),
        name=wire.get("name"),
        tool_calls=tuple(map(_tool_call, wire.get("tool_calls") or ())),
        tool_call_id=wire.get("tool_call_id"),
    )
    return evolve(message, reasoning=next((wire[k] for k in reasoning_keys if k in wire), None))


def _content(wire: str | Iterable[Mapping[str, Any]] | None) -> str | tuple[Part, ...] | None:
    return wire if wire is None or isinstance(wire, str) else tuple(map(_part, wire))


def _part(wire: Mapping[str, Any]) -> Part:
    if wire["type"] == "text":
        return TextPart(text=wire["text"])
    kind = wire["type"].removesuffix("_url")
    source = wire.get(wire["type"])
    return MediaPart(kind=kind, url=source["url"] if isinstance(source, Mapping) else str(source))


def _tool_call(wire: Mapping[str, Any]) -> ToolCall:
    function = wire["function"]
    arguments = function["arguments"]
    return ToolCall(
        id=wire.get("id", ""),
        name=function["name"],
        arguments=arguments
        if isinstance(arguments, str)
        else json.dumps(arguments, ensure_ascii=False),
    )
