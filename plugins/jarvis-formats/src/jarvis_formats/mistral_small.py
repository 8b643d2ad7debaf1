"""Turns of Mistral Small 3.2: the system text has its own turn, and there is always one."""

from __future__ import annotations

from datetime import datetime

from jarvis_core import (
    ChatRequest,
    Message,
    PromptBuilder,
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

DEFAULT_SYSTEM = (
    "You are Mistral Small 3, a Large Language Model (LLM) created by Mistral AI, a "
    "French startup headquartered in Paris.\n"
    "Your knowledge base was last updated on 2023-10-01. The current date is "
    "{today}.\n"
    "\n"
    "When you're not sure about some information or when the user's request requires "
    "up-to-date or specific data, you must use the available tools to fetch the "
    "information. Do not hesitate to use tools whenever they can provide a more "
    "accurate or complete response. If no relevant tools are available, then clearly "
    "state that you don't have the information and avoid making up anything.\n"
    "\n"
    "If the user's question is not clear, ambiguous, or does not provide enough "
    "context for you to accurately answer the question, you do not try to answer it "
    'right away and you rather ask the user to clarify their request (e.g. "What are '
    'some good restaurants around me?" => "Where are you?" or "When is the next '
    'flight to Tokyo" => "Where do you travel from?").\n'
    "You are always very attentive to dates, and when asked about information at "
    "specific dates, you discard information that is at another date.\n"
    "You follow these instructions in all languages, and always respond to the user "
    "in the language they use or request.\n"
    "Next sections describe the capabilities that you have.\n"
    "\n"
    "# WEB BROWSING INSTRUCTIONS\n"
    "\n"
    "You cannot perform any web search or access internet to open URLs, links etc. If"
    " it seems like the user is expecting you to do so, you clarify the situation and"
    " ask the user to copy paste the text directly in the chat.\n"
    "\n"
    "# MULTI-MODAL INSTRUCTIONS\n"
    "\n"
    "You have the ability to read images, but you cannot generate images. You also "
    "cannot transcribe audio files or videos.\n"
    "You cannot read nor transcribe audio files or videos.\n"
    "\n"
    "# TOOL CALLING INSTRUCTIONS\n"
    "\n"
    "You may have access to tools that you can use to fetch information or perform "
    "actions. You must use these tools in the following situations:\n"
    "\n"
    "1. When the request requires up-to-date information.\n"
    "2. When the request requires specific data that you do not have in your "
    "knowledge base.\n"
    "3. When the request involves actions that you cannot perform without tools.\n"
    "\n"
    "Always prioritize using tools to provide the most accurate and helpful response."
    " If tools are not available, inform the user that you cannot perform the "
    "requested action at the moment."
)


def default_system(now: datetime) -> str:
    """The system text of a conversation that has none."""
    return DEFAULT_SYSTEM.replace("{today}", now.strftime("%Y-%m-%d"))


def print_turns(out: PromptBuilder, request: ChatRequest, *, eos: str, now: datetime) -> None:
    """Add the whole conversation to a prompt."""
    messages = developer_as_system(request.messages)
    system, first = system_text(messages)
    check_turns(request, messages, first)
    users = [m for m in messages[first:] if m.role == "user"]
    out.scaffold("[SYSTEM_PROMPT]")
    if system is None:
        out.scaffold(default_system(now))
    else:
        out.content(system)
    out.scaffold("[/SYSTEM_PROMPT]")
    for i in range(first, len(messages)):
        message, where = messages[i], f"messages[{i}]"
        is_open = left_open(request, i)
        if message.role == "system":
            out.scaffold("[SYSTEM_PROMPT]").content(content(message, i))
            out.scaffold("[/SYSTEM_PROMPT]")
        elif message.role == "user":
            if request.tools and message == users[-1]:
                tools = tojson([tool.spec for tool in request.tools])
                out.scaffold("[AVAILABLE_TOOLS]").content(tools).scaffold("[/AVAILABLE_TOOLS]")
            out.scaffold("[INST]").content(content(message, i, separator=""))
            out.scaffold("" if is_open else "[/INST]")
        elif message.role == "assistant" and message.tool_calls:
            _calls(out, message, i)
            out.scaffold(eos)
        elif message.role == "assistant":
            out.content(content(message, i, separator=""))
            out.scaffold("" if is_open else eos)
        elif message.role == "tool":
            out.scaffold("[TOOL_RESULTS]").content(
                call_id(message.tool_call_id, f"{where}.tool_call_id")
            )
            out.scaffold("[TOOL_CONTENT]").content(content(message, i)).scaffold("[/TOOL_RESULTS]")
        else:
            raise unknown_role(message, i)


def _calls(out: PromptBuilder, message: Message, index: int) -> None:
    where = f"messages[{index}]"
    check_no_text(message, index)
    for k, call in enumerate(message.tool_calls):
        out.scaffold("[TOOL_CALLS]").content(call.name)
        out.scaffold("[CALL_ID]").content(call_id(call.id, f"{where}.tool_calls[{k}].id"))
        out.scaffold("[ARGS]").content(tojson(call_arguments(message, index, k)))
