"""The body of a message request as a chat: one way of checking and asking for both wire formats."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeVar

import orjson
from attrs import evolve, frozen

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.anthropic.parameters import COUNTED, PARAMETERS
from jarvis_core.http.anthropic.wire import (
    AssistantBlock,
    AssistantBody,
    Base64SourceBody,
    MessageBody,
    MessagesBody,
    PromptBody,
    RedactedThinkingBlockBody,
    ResultBlock,
    SystemBody,
    TextBlockBody,
    ThinkingBlockBody,
    ToolBody,
    ToolReferenceBlockBody,
    ToolResultBlockBody,
    ToolUseBlockBody,
    UserBody,
)
from jarvis_core.http.converter import structurer
from jarvis_core.http.openai.limits import at_most, items
from jarvis_core.http.openai.request import MAX_PARTS, ChatCall, chat_request, read_call
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import ChatRequest, ModelInfo

_structure_messages = structurer(MessagesBody)
_structure_prompt = structurer(PromptBody)

T = TypeVar("T")

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


@frozen(kw_only=True)
class MessageCall:
    """A message request that is valid in itself.

    Attributes:
        body: Its parameters.
        chat: The same as a chat.
        ignored: Value of the header that lists names that nobody knows.
    """

    body: PromptBody
    chat: ChatCall
    ignored: str

    def request(self, model: ModelInfo) -> ChatRequest:
        """The call as the core understands it.

        Raises:
            UnsupportedParameter: The model or its engine cannot honour a parameter.
        """
        table = PARAMETERS if isinstance(self.body, MessagesBody) else COUNTED
        table.refuse_what_cannot_be(self.body, model)
        chat, hidden = chat_request(self.chat, model), _hidden_tools(self.body)
        return evolve(
            chat,
            tools=tuple(tool for tool in chat.tools if tool.name not in hidden),
            reasoning_optional=_leaves_thinking_open(self.body),
        )


def read_messages(raw: Mapping[str, Any], settings: ServerSettings) -> MessageCall:
    """Check a request for an answer.

    Raises:
        RequestError: ``param`` is the path of the first fault.
    """
    _check_sizes(raw, settings)
    _check_tools(raw)
    body = _structure_messages(raw)
    chat: dict[str, Any] = {
        **_prompt(body),
        "max_tokens": body.max_tokens,
        "stream": body.stream,
        "stop": list(body.stop_sequences or ()),
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
    }
    return MessageCall(body=body, chat=read_call(chat, settings), ignored=PARAMETERS.ignored(raw))


def read_prompt(raw: Mapping[str, Any], settings: ServerSettings) -> MessageCall:
    """Check a request for the tokens of a prompt.

    Raises:
        RequestError: ``param`` is the path of the first fault.
    """
    _check_sizes(raw, settings)
    _check_tools(raw)
    body = _structure_prompt(raw)
    return MessageCall(
        body=body, chat=read_call(_prompt(body), settings), ignored=COUNTED.ignored(raw)
    )


def _check_sizes(raw: Mapping[str, Any], settings: ServerSettings) -> None:
    """Refuse lists that are too long before their items are looked at."""
    at_most(settings.max_messages, raw.get("messages"), "messages")
    at_most(settings.max_tools, raw.get("tools"), "tools")
    blocks = len(items(raw.get("system")))
    for message in items(raw.get("messages")):
        if isinstance(message, dict):
            blocks += len(items(message.get("content")))
    if blocks > MAX_PARTS:
        raise RequestError(
            f"system and messages have {blocks} blocks; at most {MAX_PARTS} are taken",
            param="messages",
        )


def _check_tools(raw: Mapping[str, Any]) -> None:
    """Refuse tools that Anthropic runs itself: each has a shape of its own."""
    tools = raw.get("tools")
    for i, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
            param = f"tools[{i}].type"
            raise UnsupportedParameter(
                f"{param} must be 'custom': this server calls no tools itself, it tells your "
                "application which one to call",
                param=param,
            )


def _prompt(body: PromptBody) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if body.system:
        messages.append({"role": "system", "content": _written(body.system)})
    called: set[str] = set()
    for i, message in enumerate(body.messages):
        turns = tuple(_turns(message, f"messages[{i}]"))
        _check_blocks(message, called, f"messages[{i}].content")
        for turn in turns:
            _add(messages, turn)
            called.update(call["id"] for call in turn.get("tool_calls", ()))
    for turn in messages:
        if "thought" in turn:
            turn["reasoning_content"] = "".join(turn.pop("thought"))
    last = body.messages[-1]
    if isinstance(last, AssistantBody) and messages[-1].get("tool_calls"):
        at = f"messages[{len(body.messages) - 1}]"
        raise RequestError(f"{at} calls tools: their results must follow", param=at)
    return {
        "model": body.model,
        "messages": messages,
        "continue_final_message": isinstance(last, AssistantBody),
        **_tools(body),
        **_manner(body),
    }


# -- turns -----------------------------------------------------------------------------------


def _turns(body: MessageBody, param: str) -> Iterable[dict[str, Any]]:
    match body:
        case SystemBody():
            yield {"role": "system", "content": _written(body.content)}
        case AssistantBody():
            yield _assistant(body.content)
        case UserBody(content=str(text)):
            yield {"role": "user", "content": text}
        case UserBody(content=tuple(blocks)):
            said = False
            for k, block in enumerate(blocks):
                if not isinstance(block, ToolResultBlockBody):
                    said = True
                elif said:
                    at = f"{param}.content[{k}]"
                    raise RequestError(f"{at}: results of tools must come first", param=at)
                else:
                    yield _result(block)
            if said:
                rest = (b for b in blocks if not isinstance(b, ToolResultBlockBody))
                yield {"role": "user", "content": _written(rest)}


def _check_blocks(body: MessageBody, called: Container[str], param: str) -> None:
    """Refuse blocks that nobody can make sense of.

    Args:
        body: Whose they are.
        called: Ids of the calls before them.
        param: Their path in the request.

    Raises:
        RequestError: It names the block.
    """
    if isinstance(body, UserBody) and body.content == ():
        raise RequestError(f"{param} must not be empty", param=param)
    for k, block in enumerate(_blocks(body.content)):
        at = f"{param}[{k}]"
        if isinstance(block, ToolResultBlockBody) and block.tool_use_id not in called:
            at = f"{at}.tool_use_id"
            raise RequestError(f"{at} is the id of no tool_use block before it", param=at)
        if isinstance(block, RedactedThinkingBlockBody):
            raise RequestError(
                f"{at} was not made by this server and cannot be read; leave the block out",
                param=at,
            )


def _blocks(content: str | tuple[T, ...] | None) -> tuple[T, ...]:
    """The blocks of content; a text has none, and may have millions of characters."""
    return content if isinstance(content, tuple) else ()


def _add(messages: list[dict[str, Any]], turn: dict[str, Any]) -> None:
    """Add a turn; one that goes on with the same role is the same turn, as with Anthropic."""
    before: dict[str, Any] = messages[-1] if messages else {"role": None}
    if turn["role"] != before["role"] or turn["role"] not in ("user", "assistant"):
        messages.append(turn)
        return
    if not isinstance(before["content"], list):
        before["content"] = _parts(before["content"])
    before["content"] += _parts(turn["content"])
    for name in ("tool_calls", "thought"):
        if name in turn:
            before.setdefault(name, []).extend(turn[name])


def _parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a chat's content."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or ())


def _written(content: str | Iterable[ResultBlock]) -> Any:
    """Content as a chat has it."""
    return content if isinstance(content, str) else [_part(block) for block in content]


def _part(block: ResultBlock) -> dict[str, Any]:
    if isinstance(block, TextBlockBody):
        return {"type": "text", "text": block.text}
    if isinstance(block, ToolReferenceBlockBody):
        return {"type": "text", "text": block.tool_name}
    source = block.source
    if isinstance(source, Base64SourceBody):
        url = f"data:{source.media_type};base64,{source.data}"
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}


def _result(block: ToolResultBlockBody) -> dict[str, Any]:
    content = _parts(_written(block.content or ""))
    if block.is_error:  # no chat template has a place for it: the model reads it in the text
        content = [{"type": "text", "text": "Error:"}, *content]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _assistant(content: str | tuple[AssistantBlock, ...]) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    turn: dict[str, Any] = {
        "role": "assistant",
        "content": [_part(b) for b in content if isinstance(b, TextBlockBody)] or None,
    }
    if thought := [b.thinking for b in content if isinstance(b, ThinkingBlockBody) and b.thinking]:
        turn["thought"] = thought
    if calls := [_call(b) for b in content if isinstance(b, ToolUseBlockBody)]:
        turn["tool_calls"] = calls
    if turn["content"] is None and not calls:
        turn["content"] = ""
    return turn


def _call(block: ToolUseBlockBody) -> dict[str, Any]:
    arguments = orjson.dumps(block.input).decode()
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": arguments},
    }


# -- tools and manner ------------------------------------------------------------------------


def _tools(body: PromptBody) -> dict[str, Any]:
    choice = body.tool_choice
    found: dict[str, Any] = {"tools": [_tool(tool) for tool in body.tools or ()]}
    if choice is None:
        return found
    if choice.disable_parallel_tool_use is not None:
        found["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if choice.type == "tool":
        if not choice.name:
            raise RequestError("tool_choice.name is required", param="tool_choice.name")
        found["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif found["tools"]:
        found["tool_choice"] = _CHOICES[choice.type]
    elif choice.type == "any":
        raise RequestError("tool_choice is 'any' and there are no tools", param="tool_choice")
    return found


def _hidden_tools(body: PromptBody) -> set[str]:
    """Tools that the model is not shown yet: it has to find them first."""
    hidden = {tool.name for tool in body.tools or () if tool.defer_loading}
    if hidden and body.tool_choice is not None:
        hidden.discard(body.tool_choice.name or "")
    for block in (block for message in body.messages for block in _blocks(message.content)):
        if isinstance(block, ToolUseBlockBody):
            hidden.discard(block.name)
        elif isinstance(block, ToolResultBlockBody):
            found = (b for b in _blocks(block.content) if isinstance(b, ToolReferenceBlockBody))
            hidden.difference_update(reference.tool_name for reference in found)
    return hidden


def _tool(tool: ToolBody) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = dict(tool.input_schema)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _leaves_thinking_open(body: PromptBody) -> bool:
    """Whether the model decides if it thinks; an effort of high is Anthropic's default."""
    if body.thinking is not None:
        return body.thinking.type == "adaptive"
    return body.output_config is not None and body.output_config.effort == "high"


def _manner(body: PromptBody) -> dict[str, Any]:
    """How the model is to think, and what its answer is to be like."""
    found: dict[str, Any] = {}
    output = body.output_config
    effort = None if output is None else output.effort
    if body.thinking is not None and body.thinking.type == "disabled":
        found["reasoning_effort"] = "none"
    elif effort is not None or body.thinking is not None:
        found["reasoning_effort"] = _EFFORTS[effort or "medium"]
    if output is not None and output.format is not None:
        schema = dict(output.format.schema)
        found["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    return found
