"""What the templates have no place for, as errors that name it."""

from __future__ import annotations

from jarvis_core import Message, RequestError
from jarvis_formats.content import content


def unknown_role(message: Message, index: int) -> RequestError:
    """The error for a role that a template does not print."""
    return RequestError(f"this model has no role {message.role!r}", param=f"messages[{index}].role")


def check_no_calls(message: Message, index: int) -> None:
    """Refuse a message that holds tool calls."""
    if message.tool_calls:
        raise RequestError(
            "this model's chat template cannot print tool calls: say in words what was called",
            param=f"messages[{index}].tool_calls",
        )


def check_no_text(message: Message, index: int) -> None:
    """Refuse text beside tool calls."""
    if content(message, index).strip():
        raise RequestError(
            "this model's chat template cannot print text beside tool calls: send it in a message "
            "of its own before them",
            param=f"messages[{index}].content",
        )
