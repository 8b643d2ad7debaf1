"""Messages of the wire as the core's messages."""

from __future__ import annotations

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.openai.wire import (
    AssistantMessageBody,
    AudioPartBody,
    ContentBody,
    FilePartBody,
    ImagePartBody,
    MessageBody,
    PartBody,
    RefusalPartBody,
    TextPartBody,
    ToolMessageBody,
)
from jarvis_core.structs import MediaPart, Message, ModelInfo, Part, TextPart, ToolCall


def message(body: MessageBody, param: str, model: ModelInfo) -> Message:
    """One message as the core understands it.

    Args:
        body: The message.
        param: Its path in the request, ``messages[3]``.
        model: The model that is to read it.

    Raises:
        RequestError: A part is not one that this model or server takes.
    """
    content = None if body.content is None else _content(body.content, f"{param}.content", model)
    if isinstance(body, AssistantMessageBody):
        _refuse_what_nothing_prints(body, param)
        return Message(
            role=body.role,
            content=body.refusal if content is None else content,
            name=body.name,
            tool_calls=tuple(
                ToolCall(id=c.id, name=c.function.name, arguments=c.function.arguments)
                for c in body.tool_calls or ()
            ),
            reasoning=body.reasoning_content or body.reasoning or None,
        )
    return Message(
        role=body.role,
        content=content,
        name=body.name,
        tool_call_id=body.tool_call_id if isinstance(body, ToolMessageBody) else None,
    )


def _refuse_what_nothing_prints(body: AssistantMessageBody, param: str) -> None:
    for name, instead in (("function_call", "tool_calls"), ("audio", "its text as content")):
        if getattr(body, name):
            at = f"{param}.{name}"
            raise UnsupportedParameter(f"{at} is not taken: send {instead} instead", param=at)


def _content(body: ContentBody, param: str, model: ModelInfo) -> str | tuple[Part, ...]:
    if isinstance(body, str):
        return body
    return tuple(_part(part, f"{param}[{i}]", model) for i, part in enumerate(body))


def _part(body: PartBody, param: str, model: ModelInfo) -> Part:
    match body:
        case TextPartBody():
            return TextPart(text=body.text)
        case RefusalPartBody():
            return TextPart(text=body.refusal)
        case ImagePartBody():
            return media("image", body.image_url.url, f"{param}.image_url.url", model)
        case AudioPartBody(input_audio=audio):
            url = f"data:audio/{audio.format};base64,{audio.data}"
            return media("audio", url, param, model)
        case FilePartBody(file=file):
            return media("file", file.file_data or "", f"{param}.file.file_data", model)


def media(kind: str, url: str, param: str, model: ModelInfo) -> MediaPart:
    """A part that is not text.

    Raises:
        UnsupportedParameter: The model does not take such parts.
        RequestError: It is not a data URL.
    """
    if kind not in model.capabilities.media:
        raise UnsupportedParameter(
            f"model {model.name!r} on engine {model.engine!r} does not take content of kind {kind}",
            param=param,
        )
    if not url.startswith("data:"):
        raise RequestError(f"{param} must be a data: URL; nothing is fetched", param=param)
    return MediaPart(kind=kind, url=url, param=param)
