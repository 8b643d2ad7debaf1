"""The text of a message, for templates that print text only."""

from __future__ import annotations

from jarvis_core import Message, text_of


def content(message: Message, index: int, *, separator: str = "\n") -> str:
    """A message's text.

    Args:
        message: The message.
        index: Its place in the request, for errors.
        separator: What stands between its parts.

    Raises:
        RequestError: A part of it is not text.
    """
    if isinstance(message.content, str):  # most are: the words for an error take longer
        return message.content
    return text_of(message, param=f"messages[{index}].content", separator=separator)
