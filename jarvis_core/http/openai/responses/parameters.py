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

_OF_CHATS = (
    refused("messages", "send input instead"),
    refused("max_tokens", "send max_output_tokens instead"),
    refused("max_completion_tokens", "send max_output_tokens instead"),
    refused("n", "a response is one answer", 1),
    refused("logprobs", "send include: message.output_text.logprobs instead", False),
    refused("prompt_logprobs", "not part of a response"),
    refused("response_format", "send text.format instead"),
    refused("structured_outputs", "send text.format instead"),
    refused("guided_json", "send text.format instead"),
    refused("guided_regex", "send text.format instead"),
    refused("guided_choice", "send text.format instead"),
    refused("guided_grammar", "send text.format instead"),
    refused("reasoning_effort", "send reasoning.effort instead"),
    refused("verbosity", "say in instructions how long the answer shall be", "medium"),
    refused("functions", "send tools instead", []),
    refused("function_call", "send tool_choice instead", "none", "auto"),
    refused("documents", "send them in input instead", []),
    refused("chat_template", "templates come with models, never with requests"),
    refused("chat_template_kwargs", "send reasoning.effort instead", {}),
    refused("continue_final_message", "a response is a turn of its own", False),
    refused("add_generation_prompt", "a response is a turn of its own", True),
    refused("modalities", "answers are text", ["text"], []),
    refused("audio", "answers are text"),
    refused("web_search_options", "nothing is searched"),
)
"""Parameters of chats that would go without their effect here, were they only ignored."""

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
    core(
        "tools",
        "functions, also in namespaces; told in the system text where the template prints none",
    ),
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
    *_OF_CHATS,
)
"""The table, by name, in the order in which it is documented."""
