"""Turns of Mistral Nemo and Mistral v0.3: the user's last message brings system text and tools.

They differ in the space between a tag and the text behind it, which only the older tokenizer
wants.
"""

from __future__ import annotations

from jarvis_core import (
    ChatRequest,
    Message,
    PromptBuilder,
    RequestError,
    developer_as_system,
    left_open,
    tojson,
)
from jarvis_formats.content import content
from jarvis_formats.mistral_rules import (
    call_arguments,
    call_id,
    check_turns,
    system_text,
)
from jarvis_formats.refusals import check_no_text, unknown_role


def print_turns(out: PromptBuilder, request: ChatRequest, *, eos: str, space: str) -> None:
    """Add the whole conversation to a prompt.

    Args:
        out: The prompt.
        request: The conversation.
        eos: What ends an answer.
        space: What stands between a tag and text.
    """
    messages = developer_as_system(request.messages)
    system, first = system_text(messages)
    last = len(messages) - 1
    check_turns(request, messages, first)
    users = [m for m in messages[first:] if m.role == "user"]
    if system and messages[last].role != "user":
        raise RequestError(
            "this model's chat template prints the system message only where a message of the user "
            "comes last: put its text into the user's message",
            param="messages[0]",
        )
    for i in range(first, len(messages)):
        message, where = messages[i], f"messages[{i}]"
        is_open = left_open(request, i)
        if message.role == "user":
            if request.tools and message == users[-1]:
                _tools(out, request, space)
            out.scaffold(f"[INST]{space}")
            if i == last and first:
                out.content(system or "").scaffold("\n\n")
            out.content(content(message, i)).scaffold("" if is_open else "[/INST]")
        elif message.tool_calls:
            _calls(out, message, i, space)
            out.scaffold(eos)
        elif message.role == "assistant":
            text = content(message, i)
            # The template with spaces brings its own, and prints the text without any.
            out.scaffold(space).content(text.strip() if space else text)
            out.scaffold("" if is_open else eos)
        elif message.role == "tool":
            out.scaffold(f'[TOOL_RESULTS]{space}{{"content": ').content(content(message, i))
            out.scaffold(', "call_id": "').content(
                call_id(message.tool_call_id, f"{where}.tool_call_id")
            )
            out.scaffold('"}[/TOOL_RESULTS]')
        else:
            raise unknown_role(message, i)


def _tools(out: PromptBuilder, request: ChatRequest, space: str) -> None:
    """The tools; the template prints strings without escaping them."""
    out.scaffold(f"[AVAILABLE_TOOLS]{space}[")
    for k, tool in enumerate(request.tools):
        members = [
            f'"{key}": "{value}"' if isinstance(value, str) else f'"{key}": {tojson(value)}'
            for key, value in tool.spec["function"].items()
            if key != "return"
        ]
        out.scaffold(", " if k else "").scaffold('{"type": "function", "function": {')
        out.content(", ".join(members)).scaffold("}}")
    out.scaffold("]" if len(request.tools) else "").scaffold("[/AVAILABLE_TOOLS]")


def _calls(out: PromptBuilder, message: Message, index: int, space: str) -> None:
    where = f"messages[{index}]"
    check_no_text(message, index)
    out.scaffold(f"[TOOL_CALLS]{space}[")
    for k, call in enumerate(message.tool_calls):
        function = {"name": call.name, "arguments": call_arguments(message, index, k)}
        out.scaffold(", " if k else "").content(tojson(function)[:-1])
        out.scaffold(', "id": "').content(call_id(call.id, f"{where}.tool_calls[{k}].id"))
        out.scaffold('"}')
    out.scaffold("]")
