"""Shapes of a Responses request on the wire, each declared once.

Sources: OpenAI's OpenAPI document (CreateResponse) and the Open Responses specification
(CreateResponseBody), both of 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from attrs import frozen

from jarvis_core.http.converter import Between, Length
from jarvis_core.http.openai.wire import SamplingBody, ToolName

Id = Annotated[str, Length(1, 256)]
CallId = Annotated[str, Length(1, 256)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
SummaryKind = Literal["auto", "concise", "detailed"]

# -- items -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class TextContentBody:
    """Text, whoever wrote it."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str


@frozen(kw_only=True)
class RefusalContentBody:
    """What an assistant said when it declined."""

    type: Literal["refusal"]
    refusal: str


@frozen(kw_only=True)
class ImageContentBody:
    """An image."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


@frozen(kw_only=True)
class FileContentBody:
    """A file."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


ContentPartBody = TextContentBody | RefusalContentBody | ImageContentBody | FileContentBody
ContentBody = str | tuple[ContentPartBody, ...]


@frozen(kw_only=True)
class MessageItemBody:
    """What somebody said."""

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: ContentBody
    id: Id | None = None
    phase: Literal["commentary", "final_answer"] | None = None


@frozen(kw_only=True)
class FunctionCallItemBody:
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: CallId
    name: ToolName
    arguments: str
    namespace: ToolName | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    id: Id | None = None


@frozen(kw_only=True)
class FunctionCallOutputItemBody:
    """What the function answered."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: ContentBody
    id: Id | None = None


@frozen(kw_only=True)
class ReasoningItemBody:
    """What the model thought."""

    type: Literal["reasoning"]
    summary: tuple[TextContentBody, ...] | None = None
    content: tuple[TextContentBody, ...] | None = None
    encrypted_content: str | None = None
    id: Id | None = None


@frozen(kw_only=True)
class ItemReferenceBody:
    """An item of a stored response."""

    type: Literal["item_reference"]
    id: Id


ItemBody = (
    MessageItemBody
    | FunctionCallItemBody
    | FunctionCallOutputItemBody
    | ReasoningItemBody
    | ItemReferenceBody
)
Items = Annotated[tuple[ItemBody, ...], Length(1, 1 << 20)]

# -- tools and formats -----------------------------------------------------------------------


@frozen(kw_only=True)
class FunctionToolBody:
    """A function that the model may call."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@frozen(kw_only=True)
class NamespaceToolBody:
    """Functions that belong together."""

    type: Literal["namespace"]
    name: ToolName
    tools: Annotated[tuple[FunctionToolBody, ...], Length(1, 1024)]
    description: str | None = None


@frozen(kw_only=True)
class FunctionChoiceBody:
    """The one function that must be called."""

    type: Literal["function"]
    name: str


@frozen(kw_only=True)
class AllowedToolsBody:
    """Some of the tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    tools: Annotated[tuple[FunctionChoiceBody, ...], Length(1, 1024)]
    mode: Literal["auto", "required"] = "auto"


ToolChoiceBody = Literal["none", "auto", "required"] | FunctionChoiceBody | AllowedToolsBody


@frozen(kw_only=True)
class TextFormatBody:
    """Free text."""

    type: Literal["text"]


@frozen(kw_only=True)
class JsonObjectFormatBody:
    """Any JSON object; with a schema, the echo of a format that has one."""

    type: Literal["json_object"]
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


@frozen(kw_only=True)
class JsonSchemaFormatBody:
    """JSON that obeys a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Length(1, 64)]
    schema: Mapping[str, Any]
    description: str | None = None
    strict: bool | None = None


FormatBody = TextFormatBody | JsonObjectFormatBody | JsonSchemaFormatBody


@frozen(kw_only=True)
class TextBody:
    """What the text of the answer is to be like."""

    format: FormatBody | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


@frozen(kw_only=True)
class ReasoningBody:
    """How much to think, and what to tell of it."""

    effort: Effort | None = None
    summary: SummaryKind | None = None
    generate_summary: SummaryKind | None = None
    mode: str | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None

    @property
    def told(self) -> SummaryKind | None:
        """The summary that is wanted, under its new name or its old one."""
        return self.summary or self.generate_summary


@frozen(kw_only=True)
class StreamOptionsBody:
    """What a stream holds beside the answer."""

    include_obfuscation: bool | None = None


# -- the request -----------------------------------------------------------------------------


@frozen(kw_only=True)
class ResponseBody(SamplingBody):
    """The body of POST /v1/responses: every parameter that Jarvis knows by name."""

    model: Annotated[str, Length(1, 1024)]
    input: str | Items
    instructions: str | None = None
    previous_response_id: Id | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    include: Annotated[tuple[str, ...], Length(0, 32)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Mapping[str, Any] | None = None

    max_output_tokens: Annotated[int, Between(1, 2**31 - 1)] | None = None
    top_logprobs: Annotated[int, Between(0, 1 << 20)] | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    tools: tuple[FunctionToolBody | NamespaceToolBody, ...] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Between(1, 2**31 - 1)] | None = None

    user: str | None = None
    safety_identifier: Annotated[str, Length(0, 64)] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Mapping[str, Any] | None = None

    background: bool | None = None
    conversation: Any = None
    prompt: Mapping[str, Any] | None = None
    context_management: Annotated[tuple[Mapping[str, Any], ...], Length(0, 64)] | None = None
    moderation: Mapping[str, Any] | None = None

    messages: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    logprobs: Any = None
    prompt_logprobs: Any = None
    response_format: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    functions: Any = None
    function_call: Any = None
    documents: Any = None
    chat_template: Any = None
    chat_template_kwargs: Any = None
    continue_final_message: Any = None
    add_generation_prompt: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None
