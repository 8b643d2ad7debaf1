"""Shapes of Anthropic's messages on the wire, each declared once.

Source: https://docs.anthropic.com/en/api/messages and the types of the SDK ``anthropic`` 2.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from attrs import frozen

from jarvis_core.http.converter import Between, Length

# -- content ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class TextBlockBody:
    """Text."""

    type: Literal["text"]
    text: str


@frozen(kw_only=True)
class Base64SourceBody:
    """An image inside the request."""

    type: Literal["base64"]
    media_type: str
    data: str


@frozen(kw_only=True)
class UrlSourceBody:
    """An image elsewhere."""

    type: Literal["url"]
    url: str


@frozen(kw_only=True)
class ImageBlockBody:
    """An image."""

    type: Literal["image"]
    source: Base64SourceBody | UrlSourceBody


@frozen(kw_only=True)
class ToolUseBlockBody:
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Mapping[str, Any]


@frozen(kw_only=True)
class ToolReferenceBlockBody:
    """A tool that the client has found: the model is shown it from here on."""

    type: Literal["tool_reference"]
    tool_name: str


ResultBlock = TextBlockBody | ImageBlockBody | ToolReferenceBlockBody


@frozen(kw_only=True)
class ToolResultBlockBody:
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | tuple[ResultBlock, ...] | None = None
    is_error: bool | None = None


@frozen(kw_only=True)
class ThinkingBlockBody:
    """What the assistant thought."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


@frozen(kw_only=True)
class RedactedThinkingBlockBody:
    """What the assistant of another server thought, which only that can read."""

    type: Literal["redacted_thinking"]
    data: str


UserBlock = TextBlockBody | ImageBlockBody | ToolResultBlockBody
AssistantBlock = TextBlockBody | ThinkingBlockBody | RedactedThinkingBlockBody | ToolUseBlockBody


@frozen(kw_only=True)
class UserBody:
    """A turn of the user, results of tools included."""

    role: Literal["user"]
    content: str | tuple[UserBlock, ...]


@frozen(kw_only=True)
class AssistantBody:
    """A turn of the assistant; as the last one, the beginning of the answer."""

    role: Literal["assistant"]
    content: str | tuple[AssistantBlock, ...]


@frozen(kw_only=True)
class SystemBody:
    """Instructions in the middle of a conversation."""

    role: Literal["system"]
    content: str | tuple[TextBlockBody, ...]


MessageBody = UserBody | AssistantBody | SystemBody

# -- tools -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class ToolBody:
    """A function that the model may call; tools that Anthropic runs itself have other types."""

    name: str
    input_schema: Mapping[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None


@frozen(kw_only=True)
class ToolChoiceBody:
    """Which tools may or must be called."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


# -- the rest --------------------------------------------------------------------------------


@frozen(kw_only=True)
class ThinkingBody:
    """Whether the model is to think first."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Between(1, 2**31 - 1)] | None = None
    display: str | None = None


@frozen(kw_only=True)
class OutputFormatBody:
    """A JSON schema that the answer obeys."""

    type: Literal["json_schema"]
    schema: Mapping[str, Any]


@frozen(kw_only=True)
class OutputConfigBody:
    """What the answer is to be like."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatBody | None = None


@frozen(kw_only=True)
class PromptBody:
    """What a request for an answer and one for its tokens have in common."""

    model: Annotated[str, Length(1, 1024)]
    messages: Annotated[tuple[MessageBody, ...], Length(1, 1 << 20)]
    system: str | tuple[TextBlockBody, ...] | None = None
    tools: tuple[ToolBody, ...] | None = None
    tool_choice: ToolChoiceBody | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputConfigBody | None = None
    cache_control: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class MessagesBody(PromptBody):
    """A request for an answer."""

    max_tokens: Annotated[int, Between(1, 2**31 - 1)]
    stream: bool | None = None
    stop_sequences: tuple[str, ...] | None = None
    temperature: Annotated[float, Between(0.0, 2.0)] | None = None
    top_p: Annotated[float, Between(0.0, 1.0)] | None = None
    top_k: Annotated[int, Between(0, 2**31 - 1)] | None = None
    metadata: Mapping[str, Any] | None = None
    service_tier: str | None = None
    container: Any = None
    mcp_servers: tuple[Any, ...] | None = None
    context_management: Mapping[str, Any] | None = None
    inference_geo: str | None = None
    speed: str | None = None
