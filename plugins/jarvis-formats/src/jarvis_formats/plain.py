"""What the templates without tools share: roles of system, user and assistant, and text only."""

from __future__ import annotations

from jarvis_core import ChatRequest, FormatContext, RequestError, left_open
from jarvis_formats.content import content
from jarvis_formats.refusals import check_no_calls, unknown_role

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""What the templates call who speaks."""

Turn = tuple[str, str, bool]
"""Role, text, and whether it is left open."""


def plain_turns(request: ChatRequest) -> list[Turn]:
    """What the messages say, developer as system.

    Raises:
        RequestError: The template would lose one of them, or a tool call in it.
    """
    turns = []
    for i, message in enumerate(request.messages):
        role = ROLES.get(message.role)
        if role is None:
            raise unknown_role(message, i)
        if message.tool_calls:
            check_no_calls(message, i)
        turns.append((role, content(message, i), False))
    if turns and left_open(request, len(turns) - 1):
        turns[-1] = (*turns[-1][:2], True)
    return turns


def turns_after_system(request: ChatRequest) -> tuple[str | None, list[Turn]]:
    """The text of a system message that comes first, None if none does, and the other turns.

    Raises:
        RequestError: A system message stands elsewhere.
    """
    turns = plain_turns(request)
    roles = [turn[0] for turn in turns]
    if "system" in roles[1:]:
        raise RequestError(
            "this model's prompts have a place for one system message, at the beginning",
            param=f"messages[{roles.index('system', 1)}].role",
        )
    given = roles[:1] == ["system"]
    return (turns[0][1], turns[1:]) if given else (None, turns)


def end_of_text(context: FormatContext) -> tuple[str, tuple[str, ...]]:
    """The text of the end-of-sequence token, and the stop string that it takes to end there.

    A model that knows its own end needs none, and "</s>" may be HTML in an answer.
    """
    known = context.model.eos_token
    return (known, ()) if known else ("</s>", ("</s>",))
