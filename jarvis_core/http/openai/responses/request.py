"""The body of a Responses request: checked, and as the core's ``ChatRequest``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.converter import structurer
from jarvis_core.http.openai import constraint
from jarvis_core.http.openai.limits import (
    at_most,
    check_can_call,
    check_effort,
    check_stop,
    check_tools,
    check_top_logprobs,
)
from jarvis_core.http.openai.limits import items as items_of
from jarvis_core.http.openai.parameter_table import unsupported
from jarvis_core.http.openai.request import MAX_PARTS, parallel_tool_calls
from jarvis_core.http.openai.responses.items import Placed, messages, with_types
from jarvis_core.http.openai.responses.parameters import RESPONSE_PARAMETERS
from jarvis_core.http.openai.responses.wire import (
    AllowedToolsBody,
    FunctionChoiceBody,
    JsonObjectFormatBody,
    JsonSchemaFormatBody,
    ResponseBody,
    TextBody,
)
from jarvis_core.http.openai.sampling import default_max_tokens, sampling_params
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    Message,
    ModelInfo,
    Tool,
    ToolChoice,
)

LOGPROBS = "message.output_text.logprobs"
"""The only thing to include that an answer here has beside its text."""

# Parts of the answers of tools that the server would call itself, and reasoning that is hidden: as
# there are none, nothing of them is left out.
_NOTHING_TO_INCLUDE = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
_TOOL_KEYS = frozenset({"name", "description", "parameters", "strict"})
_TOOL_CHOICES = ("function", "allowed_tools")  # no set: a client may send what cannot be hashed

_structure_body = structurer(ResponseBody)


@frozen(kw_only=True)
class ResponseCall:
    """A Responses request that is valid in itself.

    Attributes:
        body: Its parameters.
        tools: The client's tools, in the shape that chat formats print.
        constraint: What the answer must obey.
        ignored: Value of the header that lists names that nobody knows.
    """

    body: ResponseBody
    tools: tuple[Tool, ...]
    constraint: Constraint | None
    ignored: str

    @property
    def keeps(self) -> bool:
        """Whether the response is to be stored."""
        return self.body.store is not False

    @property
    def wants_logprobs(self) -> bool:
        """Whether tokens' logprobs are to be sent."""
        return bool(self.body.top_logprobs) or LOGPROBS in (self.body.include or ())

    @property
    def tells_reasoning(self) -> bool:
        """Whether reasoning is to be told as it comes."""
        return self.body.reasoning is not None and self.body.reasoning.told is not None


def read_call(raw: Mapping[str, Any], settings: ServerSettings) -> ResponseCall:
    """Check a body by itself: types, bounds, limits, and what contradicts itself.

    Raises:
        RequestError: ``param`` is the path of the first fault.
    """
    _check_sizes(raw, settings)
    _check_kinds_of_tools(raw)
    body = _structure_body({**raw, "input": with_types(raw["input"])} if "input" in raw else raw)
    specs = raw.get("tools") or ()
    check_top_logprobs(body.top_logprobs, settings)
    check_stop(body, settings)
    check_tools([tool.name for tool in body.tools or ()], specs, settings, name_at="name")
    _check_choice(body)
    _check_include(body)
    _check_metadata(body.metadata or {})
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream: true", param="stream_options")
    return ResponseCall(
        body=body,
        tools=tuple(map(_tool, specs)),
        constraint=_constraint(body.text or TextBody(), settings),
        ignored=RESPONSE_PARAMETERS.ignored(raw),
    )


def chat_request(call: ResponseCall, items: Iterable[Placed], model: ModelInfo) -> ChatRequest:
    """The call as the core understands it.

    Args:
        call: The call.
        items: The conversation, with what came before this call.
        model: The model that is to answer.

    Raises:
        UnsupportedParameter: The model or its engine cannot honour a parameter.
        RequestError: A token id is not in the model's vocabulary.
    """
    body = call.body
    RESPONSE_PARAMETERS.refuse_what_cannot_be(body, model)
    _refuse_what_cannot_be(call, model)
    tools, choice = tool_choice(call)
    check_can_call(choice, call.tools, model, strict_at="strict")
    instructions: tuple[Message, ...] = ()
    if body.instructions:
        instructions = (Message(role="system", content=body.instructions),)
    return ChatRequest(
        model=model.name,
        messages=instructions + messages(items, model),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel_tool_calls(body.parallel_tool_calls, choice),
        sampling=sampling_params(body, model, max_tokens=body.max_output_tokens),
        default_max_tokens=default_max_tokens(model),
        logprobs=(body.top_logprobs or 0) if call.wants_logprobs else None,
        constraint=call.constraint,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


# -- a body by itself ------------------------------------------------------------------------


def _check_sizes(raw: Mapping[str, Any], settings: ServerSettings) -> None:
    for name, limit in (("input", settings.max_messages), ("tools", settings.max_tools)):
        at_most(limit, raw.get(name), name)
    parts = sum(
        len(items_of(item.get(key)))
        for item in items_of(raw.get("input"))
        if isinstance(item, dict)
        for key in ("content", "output", "summary")
    )
    if parts > MAX_PARTS:
        raise RequestError(
            f"the items of input have {parts} parts; at most {MAX_PARTS} are taken", param="input"
        )


def _check_kinds_of_tools(raw: Mapping[str, Any]) -> None:
    """Refuse tools that OpenAI's servers call themselves, with more than that they are not known.

    Raises:
        UnsupportedParameter: There is one.
    """
    for i, tool in enumerate(items_of(raw.get("tools"))):
        if isinstance(tool, dict) and tool.get("type", "function") != "function":
            raise UnsupportedParameter(
                f"tools[{i}].type must be 'function': this server calls no tools itself, it tells "
                "your application which function to call",
                param=f"tools[{i}].type",
            )
    choice = raw.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type", "function") not in _TOOL_CHOICES:
        raise UnsupportedParameter(
            "tool_choice.type must be 'function' or 'allowed_tools': this server calls no tools "
            "itself",
            param="tool_choice.type",
        )


def _check_choice(body: ResponseBody) -> None:
    names = {tool.name for tool in body.tools or ()}
    choice = body.tool_choice
    wanted: list[tuple[str, str]] = []
    if isinstance(choice, FunctionChoiceBody):
        wanted = [("tool_choice.name", choice.name)]
    elif isinstance(choice, AllowedToolsBody):
        wanted = [(f"tool_choice.tools[{i}].name", t.name) for i, t in enumerate(choice.tools)]
    for param, name in wanted:
        if name not in names:
            raise RequestError(f"{param} is not the name of a tool of this request", param=param)
    if choice == "required" and not names:
        raise RequestError("tool_choice is 'required' and there are no tools", param="tool_choice")


def _check_include(body: ResponseBody) -> None:
    for i, name in enumerate(body.include or ()):
        if name != LOGPROBS and name not in _NOTHING_TO_INCLUDE:
            known = ", ".join(sorted({LOGPROBS, *_NOTHING_TO_INCLUDE}))
            raise RequestError(f"include[{i}] must be one of {known}", param=f"include[{i}]")


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    if len(metadata) > 16:
        raise RequestError(
            f"metadata has {len(metadata)} keys; at most 16 are taken", param="metadata"
        )
    for key, value in metadata.items():
        if not isinstance(value, str) or len(value) > 512 or len(key) > 64:
            raise RequestError(
                "metadata must map names of at most 64 characters to strings of at most 512",
                param="metadata",
            )


def _constraint(text: TextBody, settings: ServerSettings) -> Constraint | None:
    match text.format:
        case JsonObjectFormatBody(schema=None):
            return constraint.ANY_OBJECT
        case (
            JsonObjectFormatBody(schema=dict(schema), strict=strict)
            | JsonSchemaFormatBody(schema=dict(schema), strict=strict)
        ):
            return constraint.of_schema(schema, "text.format.schema", settings, strict=bool(strict))
    return None


def _tool(spec: Mapping[str, Any]) -> Tool:
    function = {k: v for k, v in spec.items() if k in _TOOL_KEYS and v is not None}
    return Tool(spec={"type": "function", "function": function})


# -- for one model ---------------------------------------------------------------------------


def _refuse_what_cannot_be(call: ResponseCall, model: ModelInfo) -> None:
    """Refuse values inside of parameters that cannot have their effect."""
    body = call.body
    if call.constraint is not None:
        constraint.refuse_what_cannot_be("text.format", call.constraint, model)
    if body.text is not None and body.text.verbosity not in (None, "medium"):
        why = "say in instructions how long the answer shall be"
        raise unsupported("text.verbosity", model, why)
    if call.wants_logprobs and "logprobs" not in model.capabilities.parameters:
        raise unsupported("include", model, "its engine gives no logprobs")
    if (reasoning := body.reasoning) is None:
        return
    check_effort(reasoning.effort, model, param="reasoning.effort")
    if reasoning.told == "concise":
        why = "nothing is summarised; auto and detailed send all that was thought"
        raise unsupported("reasoning.summary", model, why)
    if reasoning.mode not in (None, "standard"):
        raise unsupported("reasoning.mode", model, "it takes standard")
    if reasoning.context not in (None, "auto"):
        why = "its chat format decides which reasoning of earlier turns is kept"
        raise unsupported("reasoning.context", model, why)


def tool_choice(call: ResponseCall) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that the model is shown, and what it may do with them."""
    match call.body.tool_choice:
        case FunctionChoiceBody(name=name):
            return call.tools, ToolChoice(mode="named", name=name)
        case AllowedToolsBody(tools=allowed, mode=mode):
            names = {tool.name for tool in allowed}
            return tuple(t for t in call.tools if t.name in names), ToolChoice(mode=mode)
        case "none" | "auto" | "required" as mode:
            return call.tools, ToolChoice(mode=mode)
    return call.tools, ToolChoice()
