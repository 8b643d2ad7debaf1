"""The table of known parameters is complete and honest."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jarvis_core.errors import UnsupportedParameter
from jarvis_core.http.openai.parameter_table import Treatment
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.request import chat_request, read_call
from jarvis_core.http.openai.wire import ChatBody
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import Capabilities, SamplingParams

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}

EFFECTIVE: dict[str, dict[str, Any]] = {
    "max_tokens": {"max_tokens": 5},
    "max_completion_tokens": {"max_completion_tokens": 5},
    "n": {"n": 2},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "stop": {"stop": "x"},
    "seed": {"seed": 1},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "logit_bias": {"logit_bias": {"1": 1}},
    "logprobs": {"logprobs": True},
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.5},
    "typical_p": {"typical_p": 0.5},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "min_tokens": {"min_tokens": 1},
    "stop_token_ids": {"stop_token_ids": [1]},
    "bad_words": {"bad_words": ["x"]},
    "ignore_eos": {"ignore_eos": True},
    "dry_multiplier": {"dry_multiplier": 1},
    "xtc_probability": {"xtc_probability": 0.5},
    "mirostat": {"mirostat": 1},
    "priority": {"priority": 1},
    "cache_salt": {"cache_salt": "x"},
    "response_format": {"response_format": {"type": "json_object"}},
    "structured_outputs.regex": {"structured_outputs": {"regex": "a"}},
    "guided_json": {"guided_json": {}},
    "guided_regex": {"guided_regex": "a"},
    "guided_choice": {"guided_choice": ["a"]},
    "guided_grammar": {"guided_grammar": "start: /a/"},
    "prompt_logprobs": {"prompt_logprobs": 1},
    "chat_template": {"chat_template": "{{ x }}"},
    "verbosity": {"verbosity": "low"},
    "modalities": {"modalities": ["text", "audio"]},
    "audio": {"audio": {"voice": "a", "format": "wav"}},
    "web_search_options": {"web_search_options": {}},
    "moderation": {"moderation": {}},
    "functions": {"functions": [{"name": "a"}]},
    "function_call": {"function_call": {"name": "a"}},
    "tool_choice": {
        "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "a"}}],
    },
    "tools[0].function.strict": {
        "tools": [{"type": "function", "function": {"name": "a", "strict": True}}],
    },
}

NEUTRAL: dict[str, Any] = {
    "n": 1,
    "temperature": 1,
    "top_p": 1,
    "stop": [],
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "logprobs": False,
    "top_k": -1,
    "min_p": 0,
    "typical_p": 1,
    "repetition_penalty": 1,
    "min_tokens": 0,
    "stop_token_ids": [],
    "bad_words": [],
    "ignore_eos": False,
    "dry_multiplier": 0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": -1,
    "dry_sequence_breakers": ["\n"],
    "xtc_probability": 0,
    "xtc_threshold": 0.1,
    "mirostat": 0,
    "mirostat_tau": 5,
    "mirostat_eta": 0.1,
    "priority": 0,
    "response_format": {"type": "text"},
    "verbosity": "medium",
    "modalities": ["text"],
    "functions": [],
    "function_call": "none",
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}

WITHOUT_EFFECT = {
    "user": "u",
    "safety_identifier": "u",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "flex",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {},
    "prediction": {"type": "content", "content": "a"},
}


def request(kit: Any, capabilities: Capabilities, **parameters: Any) -> Any:
    call = read_call({**BODY, **parameters}, ServerSettings())
    return chat_request(call, kit.make_model(capabilities=capabilities).info)


def test_the_table_has_exactly_the_parameters_of_the_request() -> None:
    assert set(PARAMETERS) == {field.name for field in attrs.fields(ChatBody)}


def test_every_sampling_param_can_be_sent() -> None:
    fields = {field.name for field in attrs.fields(SamplingParams)} - {"extra"}
    assert fields <= set(PARAMETERS)


@pytest.mark.parametrize("name", EFFECTIVE)
def test_what_an_engine_without_capabilities_cannot_honour_is_refused_by_name(
    kit: Any, name: str
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        request(kit, kit.NOTHING, **EFFECTIVE[name])
    assert caught.value.param == name
    assert caught.value.code == "unsupported_parameter"
    for part in (name, "'tiny'", "'fake'"):
        assert part in caught.value.message


def test_neutral_values_are_never_refused(kit: Any) -> None:
    for name, value in NEUTRAL.items():
        assert request(kit, kit.NOTHING, **{name: value}) == request(kit, kit.NOTHING), name


def test_null_is_never_refused(kit: Any) -> None:
    parameters = {name: None for name in PARAMETERS if name not in BODY}
    assert request(kit, kit.NOTHING, **parameters) == request(kit, kit.NOTHING)


def test_what_has_no_effect_by_nature_is_taken_and_changes_nothing(kit: Any) -> None:
    named = {r.name for r in PARAMETERS.values() if r.treatment is Treatment.NO_EFFECT}
    assert set(WITHOUT_EFFECT) == named
    assert request(kit, kit.NOTHING, **WITHOUT_EFFECT) == request(kit, kit.NOTHING)


def test_what_is_refused_is_refused_by_every_engine(kit: Any) -> None:
    for row in PARAMETERS.values():
        if row.treatment is Treatment.REFUSED:
            with pytest.raises(UnsupportedParameter):
                request(kit, kit.EVERYTHING, **EFFECTIVE[row.name])


def test_a_model_shows_what_it_honours(kit: Any) -> None:
    nothing = PARAMETERS.honoured(kit.NOTHING)
    assert "messages" in nothing
    assert "temperature" not in nothing
    assert "user" not in nothing
    assert "response_format" not in nothing
    everything = PARAMETERS.honoured(kit.EVERYTHING)
    assert {"temperature", "max_completion_tokens", "top_logprobs", "response_format"} <= set(
        everything
    )
    assert "chat_template" not in everything


def test_each_parameter_has_one_outcome_with_a_model(kit: Any) -> None:
    for capabilities in (kit.NOTHING, kit.EVERYTHING):
        outcomes = PARAMETERS.outcomes(capabilities)
        named = [name for names in outcomes.values() for name in names]
        assert sorted(named) == sorted(PARAMETERS)
    assert "temperature" in PARAMETERS.outcomes(kit.NOTHING)["refused"]
    assert "temperature" in PARAMETERS.outcomes(kit.EVERYTHING)["honoured"]


def test_the_names_of_a_request_are_sorted_out() -> None:
    names = ["model", "user", "made_up", "temperature"]
    assert PARAMETERS.sorted_out(names) == (["model", "temperature"], ["user"])


def test_only_plain_unknown_names_are_listed() -> None:
    assert PARAMETERS.ignored(["model", "foo", "a\r\nb", "x" * 65, "best_of"]) == "foo, best_of, +2"
    assert PARAMETERS.ignored([f"n{i}" for i in range(100)]).endswith(", +68")
    assert PARAMETERS.ignored(["model"]) == ""
