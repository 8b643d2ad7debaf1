"""What the templates of Mistral models ask of a conversation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from jarvis_core import ChatRequest, Message, RequestError, arguments_object, left_open
from jarvis_formats.content import content

ID_LENGTH = 9


def system_text(messages: Sequence[Message]) -> tuple[str | None, int]:
    """The system text, None if there is none, and the index of the message after it."""
    if messages and messages[0].role == "system":
        return content(messages[0], 0), 1
    return None, 0


def check_turns(request: ChatRequest, messages: Sequence[Message], first: int) -> None:
    """Refuse a conversation whose turns do not alternate, or that has no place for its tools.

    Args:
        messages: The request's, with roles that the templates know.
        first: Index of the first message that is no system text.
    """
    if messages:
        left_open(request, len(messages) - 1)
    wanted = True
    beside_calls = False
    for i, message in enumerate(messages[first:], first):
        if message.role == "tool" or message.tool_calls:
            continue
        if message.role == "assistant" and beside_calls:
            wanted = False  # the text before belongs to its calls, which are not counted
        beside_calls = [bool(m.tool_calls) for m in messages[i : i + 2]] == [False, True]
        if (message.role == "user") is not wanted:
            raise RequestError(
                "this model's chat template wants messages of user and assistant by turns, after "
                f"one optional system message; messages[{i}] is from {message.role}",
                param=f"messages[{i}].role",
            )
        wanted = not wanted
    if request.tools and all(m.role != "user" for m in messages):
        raise RequestError(
            "this model's chat template shows tools with a message of the user: add one",
            param="messages",
        )


def call_arguments(message: Message, index: int, k: int) -> Any:
    """The value of the k-th call's arguments."""
    param = f"messages[{index}].tool_calls[{k}].function.arguments"
    return arguments_object(message.tool_calls[k].arguments, param=param)


def short_ids(request: ChatRequest) -> ChatRequest:
    """The request with identifiers of calls that the templates take in place of others."""
    return evolve(
        request,
        messages=tuple(
            evolve(
                message,
                tool_calls=tuple(evolve(c, id=_short(c.id)) for c in message.tool_calls),
                tool_call_id=message.tool_call_id and _short(message.tool_call_id),
            )
            for message in request.messages
        ),
    )


def _short(value: str) -> str:
    if len(value) == ID_LENGTH:
        return value
    return hashlib.sha256(value.encode()).hexdigest()[:ID_LENGTH]


def call_id(value: str | None, param: str) -> str:
    """An identifier of a call, which must have nine characters."""
    if value is None or len(value) != ID_LENGTH:
        raise RequestError(
            f"this model's chat template takes identifiers of tool calls of {ID_LENGTH} characters "
            "only, like those that its answers give",
            param=param,
        )
    return value
