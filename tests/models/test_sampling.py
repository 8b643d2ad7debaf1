"""What counts where a request does not say: the operator's word, the model's files, the API."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jarvis_core import SettingError
from jarvis_core.models.sampling import SamplingDefault, SamplingDefaults
from jarvis_core.settings.sampling import SamplingSettings
from jarvis_core.structs import Capabilities, ModelInfo

HONOURED = ("temperature", "top_p", "top_k", "repetition_penalty")


def of(sampling: dict[str, Any], **settings: Any) -> SamplingDefaults:
    """The defaults of a model whose files recommend this."""
    model = ModelInfo(
        name="m",
        source="org/m",
        engine="fake",
        context_length=64,
        capabilities=Capabilities(parameters=frozenset({*HONOURED, "stop"})),
        sampling=sampling,
    )
    return SamplingDefaults.of(model, SamplingSettings(**settings))


def test_where_nobody_says_anything_nothing_is_changed() -> None:
    found = of({})
    assert found.values == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
    }
    assert {default.origin for default in found.chosen.values()} == {"default"}
    assert found.line == ""


def test_the_operator_goes_before_the_model() -> None:
    found = of({"temperature": 0.6, "top_k": 20.0}, temperature=0.0)
    assert found.chosen["temperature"] == SamplingDefault(value=0.0, origin="setting")
    assert found.chosen["top_k"] == SamplingDefault(value=20, origin="model")
    assert type(found.chosen["top_k"].value) is int
    assert found.line == "temperature 0 (setting), top_k 20 (model)"
    assert found.unusable == {}


def test_the_models_word_can_be_turned_off() -> None:
    found = of({"temperature": 0.6, "top_k": "many"}, from_model=False, top_p=0.5)
    assert found.line == "top_p 0.5 (setting)"
    assert found.unusable == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.5),
        ("temperature", math.nan),
        ("temperature", "0.6"),
        ("temperature", True),
        ("top_k", 20.5),
        ("repetition_penalty", 0),
        ("min_p", 0.1),  # its engine cannot
        ("num_beams", 4),
        ("max_tokens", 4),  # how long an answer may be is the operator's to say
    ],
)
def test_what_a_model_recommends_and_cannot_be_is_left_out_and_told(name: str, value: Any) -> None:
    found = of({name: value, "top_p": 0.9})
    assert found.line == "top_p 0.9 (model)"
    assert list(found.unusable) == [name]


@pytest.mark.parametrize(("name", "value"), [("temperature", None), ("min_p", 0), ("min_p", None)])
def test_what_changes_nothing_is_not_told(name: str, value: Any) -> None:
    assert of({name: value}).unusable == {}


def test_an_operators_word_that_the_engine_cannot_honour_is_refused() -> None:
    with pytest.raises(SettingError) as refused:
        of({}, min_p=0.1)
    assert refused.value.message == (
        "model 'm' on engine 'fake' cannot honour min_p: remove it from [models.m.sampling], or "
        "JARVIS_SAMPLING_MIN_P"
    )
