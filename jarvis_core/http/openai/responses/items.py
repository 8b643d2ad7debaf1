"""Items of a conversation: as clients send them, as they are stored, as the core's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from jarvis_core.errors import RequestError
from jarvis_core.http.openai.messages import media
from jarvis_core.http.openai.responses.tools import full_name
from jarvis_core.http.openai.responses.wire import (
    ContentBody,
    ContentPartBody,
    FileContentBody,
    FunctionCallItemBody,
    FunctionCallOutputItemBody,
    ImageContentBody,
    ItemBody,
    ItemReferenceBody,
    MessageItemBody,
    ReasoningItemBody,
    RefusalContentBody,
    TextContentBody,
)
from jarvis_core.structs import Message, ModelInfo, Part, TextPart, ToolCall

Item = Mapping[str, Any]
"""An item as it is stored and sent."""


@frozen(kw_only=True)
class Placed:
    """An item and where the client put it.

    Attributes:
        item: The item.
        param: The parameter that brought it, for errors.
    """

    item: Item
    param: str


def with_types(items: Any) -> Any:
    """The client's list of items, with the type where it may be left out."""
    if not isinstance(items, list):
        return items
    return [_with_type(item) for item in items]


def _with_type(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    if "role" in item:
        return {**item, "type": "message"}
    return {**item, "type": "item_reference"} if "id" in item else item


# -- as they are stored ----------------------------------------------------------------------


def stored(body: ItemBody, made_id: str, param: str) -> Item:
    """An item of a request as it is stored; references are the caller's business.

    Args:
        body: The item.
        made_id: Its identifier where the client gave none, without the prefix of its kind.
        param: Its path in the request.

    Raises:
        RequestError: It cannot be read.
    """
    match body:
        case MessageItemBody():
            return {
                "type": "message",
                "id": body.id or f"msg_{made_id}",
                "status": "completed",
                "role": body.role,
                "content": _content(body, param),
                **({"phase": body.phase} if body.phase and body.role == "assistant" else {}),
            }
        case FunctionCallItemBody():
            return {
                "type": "function_call",
                "id": body.id or f"fc_{made_id}",
                "call_id": body.call_id,
                "name": body.name,
                **({"namespace": body.namespace} if body.namespace else {}),
                "arguments": body.arguments,
                "status": "incomplete" if body.status == "incomplete" else "completed",
            }
        case FunctionCallOutputItemBody():
            return {
                "type": "function_call_output",
                "id": body.id or f"fco_{made_id}",
                "call_id": body.call_id,
                "output": body.output
                if isinstance(body.output, str)
                else _input_parts(body.output, f"{param}.output"),
                "status": "completed",
            }
        case ReasoningItemBody():
            return _reasoning(body, made_id, param)
        case ItemReferenceBody():
            raise AssertionError("references are resolved before")


def _content(body: MessageItemBody, param: str) -> list[Item]:
    if body.role == "assistant":
        return _output_parts(body.content, f"{param}.content")
    return _input_parts(body.content, f"{param}.content")


def _input_parts(content: ContentBody, param: str) -> list[Item]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_input_part(part, f"{param}[{i}]") for i, part in enumerate(content)]


def _input_part(part: ContentPartBody, param: str) -> Item:
    match part:
        case TextContentBody():
            return {"type": "input_text", "text": part.text}
        case ImageContentBody(image_url=url) if url:
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case FileContentBody(file_data=data) if data:
            named = {"filename": part.filename} if part.filename else {}
            return {"type": "input_file", "file_data": data, **named}
        case ImageContentBody() | FileContentBody():
            raise RequestError(f"{param} must bring its data: there are no files here", param=param)
        case RefusalContentBody():
            raise RequestError(f"{param}: only an assistant refuses", param=param)


def _output_parts(content: ContentBody, param: str) -> list[Item]:
    if isinstance(content, str):
        return [output_text(content)]
    return [_output_part(part, f"{param}[{i}]") for i, part in enumerate(content)]


def _output_part(part: ContentPartBody, param: str) -> Item:
    match part:
        case TextContentBody():
            return output_text(part.text)
        case RefusalContentBody():
            return {"type": "refusal", "refusal": part.refusal}
        case _:
            raise RequestError(f"{param}: an assistant's message holds text", param=param)


def output_text(text: str, logprobs: Sequence[Item] = ()) -> Item:
    """A piece of an assistant's text."""
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def _reasoning(body: ReasoningItemBody, made_id: str, param: str) -> Item:
    summary = [{"type": "summary_text", "text": p.text} for p in body.summary or ()]
    content = [{"type": "reasoning_text", "text": p.text} for p in body.content or ()]
    if body.encrypted_content and not summary and not content:
        raise RequestError(
            f"{param}.encrypted_content was not made by this server and cannot be read; "
            "leave the item out",
            param=f"{param}.encrypted_content",
        )
    return {
        "type": "reasoning",
        "id": body.id or f"rs_{made_id}",
        "summary": summary,
        **({"content": content} if content else {}),
        "status": "completed",
    }


# -- as messages -----------------------------------------------------------------------------


def messages(items: Iterable[Placed], model: ModelInfo) -> tuple[Message, ...]:
    """The items as a conversation.

    What the assistant thought, said and called in one turn becomes one message, as it was when the
    model wrote it: so the next prompt begins with the tokens of this one.

    Raises:
        RequestError: An item holds what this model does not take.
    """
    found: list[Message] = []
    turn = _Turn()
    for placed in items:
        item = placed.item
        if _is_assistants(item):
            if not turn.takes(item):
                found.append(turn.message())
                turn = _Turn()
            turn.add(item)
            continue
        if not turn.empty:
            found.append(turn.message())
            turn = _Turn()
        found.append(_other(item, placed.param, model))
    if not turn.empty:
        found.append(turn.message())
    return tuple(found)


def _is_assistants(item: Item) -> bool:
    return item["type"] in ("reasoning", "function_call") or item.get("role") == "assistant"


@define
class _Turn:
    """One turn of the assistant."""

    thought: list[str] = field(factory=list)
    said: list[str] = field(factory=list)
    calls: list[ToolCall] = field(factory=list)
    ends_with_text: bool = False

    @property
    def empty(self) -> bool:
        return not (self.thought or self.said or self.calls)

    def takes(self, item: Item) -> bool:
        """Whether an item belongs to this turn: text after text is another turn."""
        return not (self.ends_with_text and item["type"] == "message")

    def add(self, item: Item) -> None:
        self.ends_with_text = item["type"] == "message"
        match item["type"]:
            case "message":
                self.said += [p.get("text") or p.get("refusal", "") for p in item["content"]]
            case "reasoning":
                self.thought += [p["text"] for p in item.get("content") or item["summary"]]
            case "function_call" if item["status"] == "completed":
                name = full_name(item["name"], item.get("namespace"))
                self.calls.append(
                    ToolCall(id=item["call_id"], name=name, arguments=item["arguments"])
                )

    def message(self) -> Message:
        return Message(
            role="assistant",
            content="".join(self.said) if self.said else None,
            tool_calls=tuple(self.calls),
            reasoning="".join(self.thought) or None,
        )


def _other(item: Item, param: str, model: ModelInfo) -> Message:
    if item["type"] == "function_call_output":
        output = item["output"]
        if not isinstance(output, str):
            output = _parts(output, f"{param}.output", model)
        return Message(role="tool", content=output, tool_call_id=item["call_id"])
    return Message(role=item["role"], content=_parts(item["content"], f"{param}.content", model))


def _parts(parts: Sequence[Item], param: str, model: ModelInfo) -> str | tuple[Part, ...]:
    if len(parts) == 1 and parts[0]["type"] == "input_text":
        return str(parts[0]["text"])
    return tuple(_part(part, f"{param}[{i}]", model) for i, part in enumerate(parts))


def _part(part: Item, param: str, model: ModelInfo) -> Part:
    match part["type"]:
        case "input_image":
            return media("image", part["image_url"], f"{param}.image_url", model)
        case "input_file":
            return media("file", part["file_data"], f"{param}.file_data", model)
    return TextPart(text=part["text"])
