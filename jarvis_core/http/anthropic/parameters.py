"""Every parameter of a message request that Jarvis knows, and what becomes of it."""

from __future__ import annotations

from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    core,
    engine,
    no_effect,
    refused,
)

_PROMPT = (
    core("model"),
    core("messages", "a last turn of the assistant is the beginning of the answer"),
    core("system"),
    core(
        "tools",
        "functions, not what Anthropic runs; one with defer_loading is shown once a tool_reference "
        "names it",
    ),
    core("tool_choice", "any and tool need an engine that enforces lark grammars"),
    core(
        "thinking",
        "adaptive leaves it to the model, and to think or not is for chat formats that know it; "
        "budget_tokens and display have no effect",
    ),
    core("output_config", "effort for chat formats that know it; format needs json_schema"),
    no_effect("cache_control", "prefixes are cached without it"),
)

COUNTED = ParameterTable(*_PROMPT)
"""Those of a request for the tokens of a prompt."""

PARAMETERS = ParameterTable(
    *_PROMPT,
    core("stream"),
    engine("max_tokens"),
    engine("stop_sequences", (), needs="stop"),
    engine("temperature", 1.0),
    engine("top_p", 1.0),
    engine("top_k", 0),
    no_effect("metadata", "says who asks"),
    no_effect("service_tier", "there is one"),
    no_effect("inference_geo", "the model is where the server is"),
    no_effect("context_management", "nothing is taken out of a prompt"),
    refused("container", "nothing is run for the model"),
    refused("mcp_servers", "no other server is asked", ()),
    refused("speed", "there is one", "standard"),
)
"""Those of a request for an answer."""
