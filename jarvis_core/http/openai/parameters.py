"""Every parameter of a chat that Jarvis knows, and what becomes of it.

A parameter is honoured, without effect by nature, or refused; one that a model's engine cannot
honour is refused with a message that names parameter, model and engine. A neutral value changes
nothing and is never refused. A name that is not in this table is ignored and listed in the header
``X-Jarvis-Ignored-Params``.
"""

from __future__ import annotations

from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    constraint,
    core,
    engine,
    no_effect,
    refused,
)

SAMPLING = (
    engine("temperature", 1.0),
    engine("top_p", 1.0),
    engine("stop", ()),
    engine("seed"),
    engine("presence_penalty", 0.0),
    engine("frequency_penalty", 0.0),
    engine("logit_bias", {}),
    engine("top_k", 0, -1),
    engine("min_p", 0.0),
    engine("typical_p", 1.0),
    engine("repetition_penalty", 1.0),
    engine("min_tokens", 0),
    engine("stop_token_ids", ()),
    engine("bad_words", ()),
    engine("ignore_eos", False),
    engine("dry_multiplier", 0.0),
    engine("dry_base", unless="dry_multiplier"),
    engine("dry_allowed_length", unless="dry_multiplier"),
    engine("dry_penalty_last_n", unless="dry_multiplier"),
    engine("dry_sequence_breakers", unless="dry_multiplier"),
    engine("xtc_probability", 0.0),
    engine("xtc_threshold", unless="xtc_probability"),
    engine("mirostat", 0),
    engine("mirostat_tau", unless="mirostat"),
    engine("mirostat_eta", unless="mirostat"),
    engine("priority", 0),
    engine("cache_salt"),
)
"""Those that every route with sampling knows: the fields of ``SamplingBody``."""

PARAMETERS = ParameterTable(
    core("model"),
    core("messages"),
    core("stream"),
    core("stream_options", "include_usage; include_obfuscation has no effect"),
    core("tools", "told in the system text where the chat template prints none"),
    core("tool_choice", "required and named calls need an engine that enforces lark grammars"),
    core("parallel_tool_calls", "by default true, and false for a tool_choice that forces a call"),
    core("reasoning_effort", "none, low, medium, high, for chat formats that know it"),
    core("chat_template_kwargs", "for chat formats that know them"),
    core("documents", "texts to answer from, for chat formats that know them"),
    core("continue_final_message"),
    core("add_generation_prompt"),
    engine("max_tokens", needs="max_tokens"),
    engine("max_completion_tokens", needs="max_tokens"),
    engine("n", 1),
    engine("logprobs", False),
    engine("top_logprobs", needs="logprobs", unless="logprobs"),
    engine("prompt_logprobs", note="in vLLM's shape; not in streams"),
    *SAMPLING,
    constraint("response_format"),
    constraint("structured_outputs"),
    constraint("guided_json", "json_schema"),
    constraint("guided_regex", "regex"),
    constraint("guided_choice", "choice"),
    constraint("guided_grammar", "lark"),
    no_effect("user", "says who asks"),
    no_effect("safety_identifier", "says who asks"),
    no_effect("metadata", "labels of stored answers"),
    no_effect("store", "nothing is stored"),
    no_effect("service_tier", "there is one"),
    no_effect("prompt_cache_key", "prefixes are found without it"),
    no_effect("prompt_cache_retention", "prefixes stay while there is room"),
    no_effect("prompt_cache_options", "prefixes are found without them"),
    no_effect("prediction", "a hint for speed"),
    refused("chat_template", "templates come with models, never with requests"),
    refused("verbosity", "say in a message how long the answer shall be", "medium"),
    refused("modalities", "answers are text", ("text",), ()),
    refused("audio", "answers are text"),
    refused("web_search_options", "nothing is searched"),
    refused("moderation", "nothing is moderated"),
    refused("functions", "send tools instead", ()),
    refused("function_call", "send tool_choice instead", "none", "auto"),
)
