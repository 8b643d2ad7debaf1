"""Conversations told in another way, for formats whose publisher's template takes no other.

A format gives them in its method ``retold``. Nothing is lost and nothing is made up: what one
message holds is spread over several, or stands in another one::

    class Llama3:
        def retold(self, request, context):
            return [call_by_call(text_before_calls(request))]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from attrs import evolve

from jarvis_core.rendering import text_of
from jarvis_core.structs import ChatRequest, Message


def text_before_calls(request: ChatRequest) -> ChatRequest:
    """The request with text that stands beside calls in a message of its own before them."""
    messages: list[Message] = []
    for message in request.messages:
        if message.tool_calls and text_of(message).strip():
            messages.append(evolve(message, tool_calls=(), reasoning=None))
            message = evolve(message, content=None)
        messages.append(message)
    return evolve(request, messages=tuple(messages))


def call_by_call(request: ChatRequest) -> ChatRequest:
    """The request with one call in a message, and its result before the next call."""
    messages: list[Message] = []
    rest = list(request.messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            messages.append(message)
            continue
        results = list(takewhile(lambda m: m.role == "tool", rest))
        del rest[: len(results)]
        messages += _call_by_call(message, results)
    return evolve(request, messages=tuple(messages))


def _call_by_call(message: Message, results: Sequence[Message]) -> Iterator[Message]:
    """One message for each call. Results of none of them follow the last."""
    known = {call.id for call in message.tool_calls}
    for call in message.tool_calls:
        yield evolve(message, tool_calls=(call,))
        message = evolve(message, content=None, reasoning=None)
        yield from (result for result in results if result.tool_call_id == call.id)
    yield from (result for result in results if result.tool_call_id not in known)


def system_as_user(request: ChatRequest, *, last: bool = False) -> ChatRequest:
    """The request with the text of a first system message before a text of the user.

    Args:
        request: A request.
        last: Before the user's last text, not the first.
    """
    messages = request.messages
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    if not users or messages[0].role not in ("system", "developer"):
        return request
    at = users[-1 if last else 0]
    text = f"{text_of(messages[0])}\n\n{text_of(messages[at])}"
    told = (*messages[1:at], evolve(messages[at], content=text), *messages[at + 1 :])
    return evolve(request, messages=told)
