"""What the templates without tools share: roles of system, user and assistant, and text only."""

from __future__ import annotations

from jarvis_core import (
    ChatRequest,
    FormatContext,
    Message,
    RequestError,
    developer_as_system,
    text_of,
)
from jarvis_formats.refusals import check_no_calls, unknown_role


def plain_messages(request: ChatRequest) -> tuple[Message, ...]:
    """The messages, developer as system.

    Raises:
        RequestError: The template would lose one of them, or a tool call in it.
    """
    messages = developer_as_system(request.messages)
    for i, message in enumerate(messages):
        if message.role not in ("system", "user", "assistant"):
            raise unknown_role(message, i)
        check_no_calls(message, i)
    return messages


def content(message: Message, index: int) -> str:
    """A message's text."""
    return text_of(message, param=f"messages[{index}].content")


def leading_system(messages: tuple[Message, ...]) -> tuple[str | None, int]:
    """The text of a system message that comes first, None if none does, and where to go on.

    Raises:
        RequestError: A system message stands elsewhere.
    """
    for i, message in enumerate(messages):
        if i and message.role == "system":
            raise RequestError(
                "this model's prompts have a place for one system message, at the beginning",
                param=f"messages[{i}].role",
            )
    if messages and messages[0].role == "system":
        return content(messages[0], 0), 1
    return None, 0


def end_of_text(context: FormatContext) -> tuple[str, tuple[str, ...]]:
    """The text of the end-of-sequence token, and the stop string that it takes to end there.

    A model that knows its own end needs none, and "</s>" may be HTML in an answer.
    """
    known = context.model.eos_token
    return (known, ()) if known else ("</s>", ("</s>",))
