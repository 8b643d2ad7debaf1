"""Every parameter of a Responses request that Jarvis knows, and what becomes of it."""

from __future__ import annotations

from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    core,
    engine,
    no_effect,
    refused,
)
from jarvis_core.http.openai.parameters import SAMPLING

RESPONSE_PARAMETERS = ParameterTable(
    core("model"),
    core("input", "text, messages, function calls and their outputs, reasoning, item references"),
    core("instructions", "for this response; later ones bring their own"),
    core("previous_response_id"),
    core("store", "true unless said otherwise"),
    core("stream"),
    core("stream_options", "include_obfuscation has no effect"),
    core("include", "message.output_text.logprobs; reasoning is never encrypted"),
    core("truncation", "auto leaves out the oldest turns and counts their items"),
    core("metadata"),
    core("text", "format json_schema and json_object need an engine that enforces them"),
    core("reasoning", "effort none, low, medium, high; summary auto and detailed send all of it"),
    core("tools", "functions"),
    core("tool_choice", "required and named calls need an engine that enforces lark grammars"),
    core("parallel_tool_calls"),
    engine("max_output_tokens", needs="max_tokens"),
    engine("top_logprobs", 0, needs="logprobs"),
    *SAMPLING,
    no_effect("max_tool_calls", "tools that the server itself would call: there are none"),
    no_effect("user", "says who asks"),
    no_effect("safety_identifier", "says who asks"),
    no_effect("service_tier", "there is one"),
    no_effect("prompt_cache_key", "prefixes are found without it"),
    no_effect("prompt_cache_retention", "prefixes stay while there is room"),
    no_effect("prompt_cache_options", "prefixes are found without them"),
    refused("background", "responses are made while their client waits", False),
    refused("conversation", "send previous_response_id instead"),
    refused("prompt", "there are no stored prompts; send instructions and input"),
    refused("context_management", "send truncation: auto instead", ()),
    refused("moderation", "nothing is moderated"),
)
"""The table, by name, in the order in which it is documented."""
