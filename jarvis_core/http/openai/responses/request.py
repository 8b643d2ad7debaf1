"""The body of a Responses request: checked, and as the core's ``ChatRequest``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from jarvis_core.errors import RequestError
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
from jarvis_core.http.openai.responses import tools
from jarvis_core.http.openai.responses.items import Placed, messages, with_types
from jarvis_core.http.openai.responses.parameters import RESPONSE_PARAMETERS
from jarvis_core.http.openai.responses.tools import Function, Namespaces
from jarvis_core.http.openai.responses.wire import (
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

_structure_body = structurer(ResponseBody)


@frozen(kw_only=True)
class ResponseCall:
    """A Responses request that is valid in itself.

    Attributes:
        body: Its parameters.
        functions: The client's tools.
        constraint: What the answer must obey.
        ignored: Value of the header that lists names that nobody knows.
    """

    body: ResponseBody
    functions: tuple[Function, ...]
    constraint: Constraint | None
    ignored: str

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The client's tools, in the shape that chat formats print."""
        return tuple(function.tool for function in self.functions)

    @property
    def namespaces(self) -> Namespaces:
        """What the client calls the tools that are in a namespace."""
        grouped = (function for function in self.functions if function.namespace)
        return {function.tool.name: (function.namespace, function.name) for function in grouped}

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
    tools.check_kinds(raw.get("tools"))
    tools.check_kind_of_choice(raw.get("tool_choice"))
    body = _structure_body({**raw, "input": with_types(raw["input"])} if "input" in raw else raw)
    functions = tuple(tools.functions(raw.get("tools") or ()))
    check_top_logprobs(body.top_logprobs, settings)
    check_stop(body, settings)
    check_tools(
        [function.tool.name for function in functions],
        [function.tool.spec["function"] for function in functions],
        settings,
        name_at="name",
        paths=[function.at for function in functions],
    )
    tools.check_choice(body.tool_choice, [function.tool for function in functions])
    _check_include(body)
    _check_metadata(body.metadata or {})
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream: true", param="stream_options")
    return ResponseCall(
        body=body,
        functions=functions,
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
    shown, choice = tools.choose(body.tool_choice, call.tools)
    paths = [function.at for function in call.functions]
    check_can_call(choice, call.tools, model, strict_at="strict", paths=paths)
    instructions: tuple[Message, ...] = ()
    if body.instructions:
        instructions = (Message(role="system", content=body.instructions),)
    return ChatRequest(
        model=model.name,
        messages=instructions + messages(items, model),
        tools=shown,
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
    at_most(settings.max_messages, raw.get("input"), "input")
    if (count := tools.count(raw.get("tools"))) > settings.max_tools:
        raise RequestError(
            f"tools has {count} items; at most {settings.max_tools} are taken", param="tools"
        )
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
