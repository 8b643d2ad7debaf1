"""The body of a chat request as the core's ``ChatRequest``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.converter import json_type, structurer
from jarvis_core.http.openai import constraint
from jarvis_core.http.openai.limits import (
    at_most,
    check_can_call,
    check_effort,
    check_stop,
    check_tools,
    check_top_logprobs,
    items,
)
from jarvis_core.http.openai.messages import message
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.sampling import default_max_tokens, sampling_params
from jarvis_core.http.openai.wire import (
    AllowedToolsChoiceBody,
    AssistantMessageBody,
    ChatBody,
    NamedToolBody,
)
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    ModelInfo,
    Tool,
    ToolChoice,
)

MAX_PARTS = 16_384
"""Content parts and tool calls in all messages of a request."""

TEMPLATE_KWARGS = frozenset(
    {
        "add_vision_id", "clear_thinking", "date_string", "enable_thinking", "keep_past_thinking",
        "model_identity", "preserve_thinking", "thinking", "thinking_budget",
        "tools_in_user_message",
    }
)  # fmt: skip
"""What a request may say to a model's template."""

_structure_body = structurer(ChatBody)


@frozen(kw_only=True)
class ChatCall:
    """A chat request that is valid in itself; whether a model can honour it is not known yet.

    Attributes:
        body: Its parameters.
        tools: The client's own tools.
        constraint: What the answer must obey, with the parameter that asks for it.
        ignored: Value of the header that lists names that nobody knows.
    """

    body: ChatBody
    tools: tuple[Tool, ...]
    constraint: tuple[str, Constraint] | None
    ignored: str


def read_call(raw: Mapping[str, Any], settings: ServerSettings) -> ChatCall:
    """Check a body by itself: types, bounds, limits, and what contradicts itself.

    Raises:
        RequestError: ``param`` is the path of the first fault.
    """
    _check_sizes(raw, settings)
    body = _structure_body(raw)
    constraint.check_names(raw)
    _check_limits(body, settings)
    _check_tools(body, raw.get("tools") or (), settings)
    _check_sense(body)
    return ChatCall(
        body=body,
        tools=tuple(Tool(spec=spec) for spec in raw.get("tools") or ()),
        constraint=constraint.wanted(body, settings),
        ignored=PARAMETERS.ignored(raw),
    )


def chat_request(call: ChatCall, model: ModelInfo) -> ChatRequest:
    """The call as the core understands it.

    Raises:
        UnsupportedParameter: The model or its engine cannot honour a parameter.
        RequestError: A token id is not in the model's vocabulary.
    """
    body = call.body
    PARAMETERS.refuse_what_cannot_be(body, model)
    if call.constraint is not None:
        constraint.refuse_what_cannot_be(*call.constraint, model)
    check_effort(body.reasoning_effort, model, param="reasoning_effort")
    tools, choice = _tool_choice(call)
    check_can_call(choice, call.tools, model, strict_at="function.strict")
    # Both are upper bounds, so the smaller one honours both.
    limits = [t for t in (body.max_tokens, body.max_completion_tokens) if t is not None]
    return ChatRequest(
        model=model.name,
        messages=tuple(message(m, f"messages[{i}]", model) for i, m in enumerate(body.messages)),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel_tool_calls(body.parallel_tool_calls, choice),
        sampling=sampling_params(body, model, max_tokens=min(limits, default=None)),
        default_max_tokens=default_max_tokens(model),
        n=body.n or 1,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        prompt_logprobs=body.prompt_logprobs,
        constraint=call.constraint[1] if call.constraint else None,
        reasoning_effort=body.reasoning_effort,
        template_kwargs=_template_kwargs(body),
        add_generation_prompt=_adds_generation_prompt(body),
        continue_final_message=bool(body.continue_final_message),
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def parallel_tool_calls(asked: bool | None, choice: ToolChoice) -> bool:
    """Whether an answer may hold several calls.

    Where nobody asks for several, a forced answer is one call: a grammar lets a small model add
    calls until its tokens are used up.
    """
    return not choice.forced if asked is None else asked


# -- a body by itself ------------------------------------------------------------------------


def _check_sizes(raw: Mapping[str, Any], settings: ServerSettings) -> None:
    """Refuse lists that are too long before their items are looked at."""
    limits = {"messages": settings.max_messages, "tools": settings.max_tools}
    for name, limit in (limits | {"documents": settings.max_messages}).items():
        at_most(limit, raw.get(name), name)
    parts = 0
    for one in items(raw.get("messages")):
        if isinstance(one, dict):
            parts += len(items(one.get("content"))) + len(items(one.get("tool_calls")))
    if parts > MAX_PARTS:
        raise RequestError(
            f"messages have {parts} parts and tool calls; at most {MAX_PARTS} are taken",
            param="messages",
        )


def _check_limits(body: ChatBody, settings: ServerSettings) -> None:
    if body.n is not None and body.n > settings.max_n:
        raise RequestError(f"n must be at most {settings.max_n}", param="n")
    check_top_logprobs(body.top_logprobs, settings)
    check_top_logprobs(body.prompt_logprobs, settings, "prompt_logprobs")
    check_stop(body, settings)
    for i, document in enumerate(body.documents or ()):
        constraint.check_depth(document, f"documents[{i}]", is_data=True)


def _check_tools(body: ChatBody, specs: Any, settings: ServerSettings) -> None:
    names = [tool.function.name for tool in body.tools or ()]
    check_tools(names, specs, settings, name_at="function.name")
    choice = body.tool_choice
    wanted: list[tuple[str, NamedToolBody]] = []
    if isinstance(choice, NamedToolBody):
        wanted = [("tool_choice", choice)]
    elif isinstance(choice, AllowedToolsChoiceBody):
        allowed = choice.allowed_tools.tools
        wanted = [(f"tool_choice.allowed_tools.tools[{i}]", t) for i, t in enumerate(allowed)]
    for at, tool in wanted:
        if tool.function.name not in names:
            param = f"{at}.function.name"
            raise RequestError(f"{param} is not the name of a tool of this request", param=param)
    if choice == "required" and not names:
        raise RequestError("tool_choice is 'required' and there are no tools", param="tool_choice")


def _check_sense(body: ChatBody) -> None:
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    if body.prompt_logprobs is not None and body.stream:
        raise RequestError("prompt_logprobs cannot be streamed", param="prompt_logprobs")
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream: true", param="stream_options")
    if body.continue_final_message:
        if body.add_generation_prompt:
            raise RequestError(
                "continue_final_message and add_generation_prompt exclude each other",
                param="continue_final_message",
            )
        if not isinstance(body.messages[-1], AssistantMessageBody):
            raise RequestError(
                "continue_final_message needs a last message of role 'assistant'",
                param="continue_final_message",
            )
    for name, value in (body.chat_template_kwargs or {}).items():
        param = f"chat_template_kwargs.{name}"
        if name not in TEMPLATE_KWARGS:
            known = ", ".join(sorted(TEMPLATE_KWARGS))
            raise UnsupportedParameter(f"chat_template_kwargs may hold {known}", param=param)
        if isinstance(value, dict | list):
            raise RequestError(f"{param} must be a scalar, not {json_type(value)}", param=param)


# -- for one model ---------------------------------------------------------------------------


def _tool_choice(call: ChatCall) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that the model is shown, and what it may do with them."""
    match call.body.tool_choice:
        case NamedToolBody(function=function):
            return call.tools, ToolChoice(mode="named", name=function.name)
        case AllowedToolsChoiceBody(allowed_tools=allowed):
            names = {tool.function.name for tool in allowed.tools}
            return tuple(t for t in call.tools if t.name in names), ToolChoice(mode=allowed.mode)
        case "none" | "auto" | "required" as mode:
            return call.tools, ToolChoice(mode=mode)
    return call.tools, ToolChoice()


def _template_kwargs(body: ChatBody) -> Mapping[str, Any]:
    kwargs = dict(body.chat_template_kwargs or {})
    return {**kwargs, "documents": list(body.documents)} if body.documents else kwargs


def _adds_generation_prompt(body: ChatBody) -> bool:
    if body.add_generation_prompt is None:
        return not body.continue_final_message
    return body.add_generation_prompt
