"""What a chat template is given: the request as the plain values that such templates expect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from attrs import evolve, frozen

from jarvis_core.errors import RequestError
from jarvis_core.rendering import arguments_object, check_template_kwargs, text_of
from jarvis_core.structs import ChatRequest, FormatContext, Message, Part, TextPart
from jarvis_core.template.media import item, parts_of

_CONTENT = r"\bcontent['\"\]]*"
_TESTS_NULL = re.compile(_CONTENT + r"\s+is\s+(not\s+)?none", re.IGNORECASE)
_TESTS_STRING = re.compile(_CONTENT + r"\s+is\s+(not\s+)?string")
_LOOPS_OVER_PARTS = re.compile(r"\bfor\s+\w+\s+in\s+[\w.\[\]'\"]*" + _CONTENT)


@frozen(kw_only=True)
class Knowledge:
    """What a template knows of content that is no text.

    Attributes:
        null: It asks whether content is null.
        parts: It loops over the parts of content.
        strings: It asks whether content is text.
    """

    null: bool
    parts: bool
    strings: bool


@lru_cache(maxsize=32)  # one for each loaded model
def knowledge_of(template: str) -> Knowledge:
    """What a template knows, by its text."""
    return Knowledge(
        null=_TESTS_NULL.search(template) is not None,
        parts=_LOOPS_OVER_PARTS.search(template) is not None,
        strings=_TESTS_STRING.search(template) is not None,
    )


@frozen(kw_only=True)
class Shape:
    """What templates do not agree on; it takes a try to know.

    Attributes:
        developer: The role that is given for ``developer``.
        arguments_as_text: The arguments of calls are given as JSON text, not as objects.
        nothing_is_null: No content is an empty text, and no tools are an empty list.
    """

    developer: str = "developer"
    arguments_as_text: bool = False
    nothing_is_null: bool = False


_USUAL = Shape()


def shapes(request: ChatRequest) -> Iterator[Shape]:
    """The shapes to try, in this order; most templates take the first."""
    tries = [_USUAL]
    yield _USUAL
    if any(m.role == "developer" for m in request.messages):
        tries.append(Shape(developer="system"))
    if any(m.tool_calls for m in request.messages):
        tries.append(evolve(tries[-1], arguments_as_text=True))
    yield from tries[1:]
    yield from (evolve(shape, nothing_is_null=True) for shape in tries)


def check_kwargs(request: ChatRequest, template: str) -> None:
    """Refuse what a request says to a template that does not look at it.

    Raises:
        UnsupportedParameter: It names what is not looked at.
    """
    asked = {*request.template_kwargs, "enable_thinking", "reasoning_effort"}
    check_template_kwargs(request, *sorted(name for name in asked if _names(template, name)))


@lru_cache(maxsize=256)  # a few for each loaded model
def _names(template: str, name: str) -> bool:
    """Whether a template looks at a variable."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def variables(
    request: ChatRequest, context: FormatContext, template: str, shape: Shape
) -> dict[str, Any]:
    """Everything that the template may use.

    Args:
        request: The conversation.
        context: The model, for its special tokens.
        template: Its source, which tells whether it knows parts and null.
        shape: How to give what templates do not agree on.

    Raises:
        RequestError: A message holds what no template can print.
    """
    given: dict[str, Any] = dict(request.template_kwargs)
    if (effort := request.reasoning_effort) is not None:
        given.setdefault("reasoning_effort", effort)
        given.setdefault("enable_thinking", effort != "none")
    return given | {
        "messages": [
            _message(message, i, template, shape) for i, message in enumerate(request.messages)
        ],
        "tools": [tool.spec for tool in request.tools] or ([] if shape.nothing_is_null else None),
        "bos_token": context.model.bos_token or "",
        "eos_token": context.model.eos_token or "",
        "add_generation_prompt": request.add_generation_prompt
        and not request.continue_final_message,
    }


def _message(message: Message, index: int, template: str, shape: Shape) -> dict[str, Any]:
    role = shape.developer if message.role == "developer" else message.role
    wire: dict[str, Any] = {"role": role, "content": _content(message, index, template, shape)}
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:
        wire["reasoning_content"] = message.reasoning
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name}}
            for call in message.tool_calls
        ]
        for k, call in enumerate(message.tool_calls):
            param = f"messages[{index}].tool_calls[{k}].function.arguments"
            value = arguments_object(call.arguments, param=param)
            wire["tool_calls"][k]["function"]["arguments"] = (
                call.arguments if shape.arguments_as_text else value
            )
    return wire


def _content(message: Message, index: int, template: str, shape: Shape) -> Any:
    """Text; null and parts only where the template knows what to do with them."""
    content = message.content
    if content is None:
        return None if knowledge_of(template).null and not shape.nothing_is_null else ""
    takes_parts = message.role == "user" and knowledge_of(template).parts
    if not isinstance(content, str):
        if takes_parts or parts_of([message]):
            return [_part(part, template) for part in content]
        return text_of(message, param=f"messages[{index}].content")
    if takes_parts and not knowledge_of(template).strings:
        return [{"type": "text", "text": content}]
    return content


def _part(part: Part, template: str) -> dict[str, Any]:
    return (
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else item(part, template)
    )


def leave_open(given: dict[str, Any], mark: str) -> None:
    """Put a mark at the end of the last message's text, where the prompt is to be cut.

    Raises:
        RequestError: The last message cannot be continued.
    """
    last = given["messages"][-1] if given["messages"] else {"role": None}
    if last["role"] not in ("assistant", "user") or "tool_calls" in last:
        raise RequestError(
            "continue_final_message needs a last message that is text of the assistant",
            param=f"messages[{len(given['messages']) - 1}]",
        )
    if isinstance(last["content"], list):
        if "text" not in last["content"][-1]:
            raise RequestError(
                "continue_final_message needs a last message that ends with text",
                param=f"messages[{len(given['messages']) - 1}]",
            )
        last["content"][-1]["text"] += mark
    else:
        last["content"] = (last["content"] or "") + mark
