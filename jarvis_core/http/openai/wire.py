"""Shapes of the chat request on the wire, each declared once.

Types say what a value must be; ``Annotated`` bounds say what else. Whether a model can honour a
parameter is ``parameters``' business, and what it means is ``request``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from attrs import frozen

from jarvis_core.http.converter import Between, Length

# -- messages --------------------------------------------------------------------------------


@frozen(kw_only=True)
class TextPartBody:
    """Text in a list of parts."""

    type: Literal["text"]
    text: str


@frozen(kw_only=True)
class RefusalPartBody:
    """What an assistant said when it declined."""

    type: Literal["refusal"]
    refusal: str


@frozen(kw_only=True)
class ImageUrl:
    """Where an image is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


@frozen(kw_only=True)
class ImagePartBody:
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


@frozen(kw_only=True)
class InputAudio:
    """Sound as base64."""

    data: str
    format: Literal["wav", "mp3"]


@frozen(kw_only=True)
class AudioPartBody:
    """Sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


@frozen(kw_only=True)
class InputFile:
    """A file's content as a data URL, or its id."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


@frozen(kw_only=True)
class FilePartBody:
    """A file."""

    type: Literal["file"]
    file: InputFile


PartBody = TextPartBody | RefusalPartBody | ImagePartBody | AudioPartBody | FilePartBody
ContentBody = str | tuple[PartBody, ...]


@frozen(kw_only=True)
class FunctionCallBody:
    """Name and JSON text of the arguments."""

    name: str
    arguments: str


@frozen(kw_only=True)
class ToolCallBody:
    """A call that the assistant made."""

    id: str
    function: FunctionCallBody
    type: Literal["function"] = "function"


@frozen(kw_only=True)
class SystemMessageBody:
    """What the application tells the model."""

    role: Literal["system", "developer"]
    content: ContentBody
    name: str | None = None


@frozen(kw_only=True)
class UserMessageBody:
    """What the user says."""

    role: Literal["user"]
    content: ContentBody
    name: str | None = None


@frozen(kw_only=True)
class AssistantMessageBody:
    """What the model said before."""

    role: Literal["assistant"]
    content: ContentBody | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCallBody, ...] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    function_call: Mapping[str, Any] | None = None
    audio: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class ToolMessageBody:
    """What a tool answered."""

    role: Literal["tool"]
    content: ContentBody
    tool_call_id: str
    name: str | None = None


MessageBody = SystemMessageBody | UserMessageBody | AssistantMessageBody | ToolMessageBody

# -- tools and formats -----------------------------------------------------------------------

ToolName = Annotated[str, Length(1, 128)]
"""Name of a function: OpenAI's chats publish 64 characters, its responses and Anthropic 128."""


@frozen(kw_only=True)
class FunctionBody:
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@frozen(kw_only=True)
class ToolBody:
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionBody


@frozen(kw_only=True)
class FunctionName:
    """Which function."""

    name: str


@frozen(kw_only=True)
class NamedToolBody:
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


@frozen(kw_only=True)
class AllowedToolsBody:
    """Some of the tools, and whether one of them must be called."""

    tools: Annotated[tuple[NamedToolBody, ...], Length(1, 1024)]
    mode: Literal["auto", "required"] = "auto"


@frozen(kw_only=True)
class AllowedToolsChoiceBody:
    """Only some of the tools may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolsBody


ToolChoiceBody = Literal["none", "auto", "required"] | NamedToolBody | AllowedToolsChoiceBody


@frozen(kw_only=True)
class TextFormatBody:
    """Free text."""

    type: Literal["text"]


@frozen(kw_only=True)
class JsonObjectFormatBody:
    """Any JSON object, or as llama.cpp's clients ask for it, one that obeys a schema."""

    type: Literal["json_object"]
    schema: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class JsonSchemaBody:
    """A schema with its name."""

    name: Annotated[str, Length(1, 64)]
    schema: Mapping[str, Any]
    description: str | None = None
    strict: bool | None = None


@frozen(kw_only=True)
class JsonSchemaFormatBody:
    """JSON that obeys a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaBody


ResponseFormatBody = TextFormatBody | JsonObjectFormatBody | JsonSchemaFormatBody


Choice = Annotated[tuple[str, ...], Length(1, 16384)]


@frozen(kw_only=True)
class StructuredOutputsBody:
    """vLLM's name for constraints beside ``response_format``; one of the fields is given."""

    json: Mapping[str, Any] | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: Choice | None = None
    grammar: str | None = None


@frozen(kw_only=True)
class StreamOptionsBody:
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


# -- the request -----------------------------------------------------------------------------

ModelName = Annotated[str, Length(1, 1024)]
Penalty = Annotated[float, Between(-2, 2)]
Share = Annotated[float, Between(0, 1)]
NotNegative = Annotated[float, Between(0, 1e6)]
TokenCount = Annotated[int, Between(1, 2**31 - 1)]
TokenId = Annotated[int, Between(0, 2**31 - 1)]
Int64 = Annotated[int, Between(-(2**63), 2**63 - 1)]


@frozen(kw_only=True)
class SamplingBody:
    """How tokens are chosen and when they end: what every route that generates text takes."""

    temperature: Annotated[float, Between(0, 2)] | None = None
    top_p: Share | None = None
    stop: str | Annotated[tuple[str, ...], Length(0, 1024)] | None = None
    seed: Int64 | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Mapping[str, Any] | None = None
    top_k: Annotated[int, Between(-1, 2**31 - 1)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repetition_penalty: Annotated[float, Between(0.01, 100)] | None = None
    min_tokens: Annotated[int, Between(0, 2**31 - 1)] | None = None
    stop_token_ids: Annotated[tuple[TokenId, ...], Length(0, 256)] | None = None
    bad_words: Annotated[tuple[str, ...], Length(0, 1024)] | None = None
    ignore_eos: bool | None = None
    dry_multiplier: NotNegative | None = None
    dry_base: NotNegative | None = None
    dry_allowed_length: Annotated[int, Between(0, 2**31 - 1)] | None = None
    dry_penalty_last_n: Annotated[int, Between(-1, 1 << 20)] | None = None
    dry_sequence_breakers: Annotated[tuple[str, ...], Length(0, 256)] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    mirostat: Annotated[int, Between(0, 2)] | None = None
    mirostat_tau: NotNegative | None = None
    mirostat_eta: NotNegative | None = None
    priority: Annotated[int, Between(-(2**31), 2**31 - 1)] | None = None
    cache_salt: Annotated[str, Length(1, 1024)] | None = None


@frozen(kw_only=True)
class GenerationBody(SamplingBody):
    """What chats and completions share beside sampling."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    n: Annotated[int, Between(1, 128)] | None = None
    response_format: ResponseFormatBody | None = None
    structured_outputs: StructuredOutputsBody | None = None
    guided_json: Mapping[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Choice | None = None
    guided_grammar: str | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)


@frozen(kw_only=True)
class ChatBody(GenerationBody):
    """The body of POST /v1/chat/completions: every parameter that Jarvis knows by name."""

    messages: Annotated[tuple[MessageBody, ...], Length(1, 1 << 20)]
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Between(0, 1 << 20)] | None = None

    tools: tuple[ToolBody, ...] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )

    prompt_logprobs: Annotated[int, Between(0, 1 << 20)] | None = None
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    documents: tuple[Mapping[str, Any], ...] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    safety_identifier: str | None = None
    metadata: Mapping[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] | None = None

    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: Annotated[tuple[str, ...], Length(0, 16)] | None = None
    audio: Mapping[str, Any] | None = None
    web_search_options: Mapping[str, Any] | None = None
    moderation: Mapping[str, Any] | None = None
    functions: Annotated[tuple[Mapping[str, Any], ...], Length(0, 1024)] | None = None
    function_call: Any = None
