"""What a response says about its request."""

from __future__ import annotations

from typing import Any

from jarvis_core.http.openai.request import parallel_tool_calls
from jarvis_core.http.openai.responses import tools
from jarvis_core.http.openai.responses.request import ResponseCall
from jarvis_core.http.openai.responses.wire import (
    AllowedToolsBody,
    FunctionChoiceBody,
    JsonObjectFormatBody,
    JsonSchemaFormatBody,
    ReasoningBody,
    ResponseBody,
    TextBody,
)
from jarvis_core.http.openai.sampling import default_max_tokens
from jarvis_core.structs import ModelInfo, SamplingParams, Tool


def echo(call: ResponseCall, model: ModelInfo, sampling: SamplingParams) -> dict[str, Any]:
    """Every value that had an effect, defaults included.

    Args:
        call: What was asked.
        model: Its model.
        sampling: How its answer is sampled.
    """
    body = call.body
    reasoning = body.reasoning or ReasoningBody()
    _, choice = tools.choose(body.tool_choice, call.tools)
    said = {
        "model": model.name,
        "previous_response_id": body.previous_response_id,
        "instructions": body.instructions,
        "tools": [_tool_echo(tool) for tool in call.tools],
        "tool_choice": _choice_echo(body),
        "parallel_tool_calls": parallel_tool_calls(body.parallel_tool_calls, choice),
        "text": {"format": _format_echo(body.text or TextBody()), "verbosity": "medium"},
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.told},
        "truncation": body.truncation or "disabled",
        "max_output_tokens": body.max_output_tokens or default_max_tokens(model),
        "max_tool_calls": body.max_tool_calls,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if body.top_p is None else body.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "top_logprobs": body.top_logprobs or 0,
        "store": call.keeps,
        "background": False,
        "service_tier": "default",
        "metadata": dict(body.metadata or {}),
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
    }
    return said if body.user is None else {**said, "user": body.user}


def _tool_echo(tool: Tool) -> dict[str, Any]:
    function = tool.spec["function"]
    return {
        "type": "function",
        "name": tool.name,
        "description": function.get("description"),
        "parameters": function.get("parameters"),
        "strict": tool.strict,
    }


def _choice_echo(body: ResponseBody) -> Any:
    match body.tool_choice:
        case FunctionChoiceBody(name=name):
            return {"type": "function", "name": name}
        case AllowedToolsBody(tools=tools, mode=mode):
            named = [{"type": "function", "name": tool.name} for tool in tools]
            return {"type": "allowed_tools", "mode": mode, "tools": named}
    return body.tool_choice or "auto"


def _format_echo(text: TextBody) -> dict[str, Any]:
    match text.format:
        case JsonObjectFormatBody(schema=None):
            return {"type": "json_object"}
        case JsonSchemaFormatBody() | JsonObjectFormatBody() as named:
            # No echo of a schema as ``json_schema`` is valid by both publications: OpenAI's wants
            # an object there, Open Responses' (2026-04-24) allows null alone. This is by both.
            return {
                "type": "json_object",
                "name": named.name,
                "description": named.description,
                "schema": named.schema,
                "strict": bool(named.strict),
            }
    return {"type": "text"}
