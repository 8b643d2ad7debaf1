"""What an operator says of a model's sampling, in variables and in ``jarvis.toml``."""

from __future__ import annotations

import pytest
from attrs import fields

from jarvis_core import SettingError
from jarvis_core.models.sampling import CHOOSING
from jarvis_core.settings.sampling import SamplingSettings

ONE = '[models.a]\nsource = "a.gguf"\n'


def test_every_parameter_that_chooses_a_token_has_a_setting():
    others = {"max_tokens", "from_model"}
    assert {field.name for field in fields(SamplingSettings)} == {*CHOOSING, *others}


def test_variables_are_of_the_single_model(load):
    (model,) = load(
        dotenv="JARVIS_SAMPLING_TEMPERATURE=0.2  # of its card\nJARVIS_SAMPLING_TOP_K=20\n",
        env={"JARVIS_SAMPLING_TOP_P": "0.9", "JARVIS_SAMPLING_FROM_MODEL": "no"},
    ).models.values()
    assert model.sampling.given == {"temperature": 0.2, "top_p": 0.9, "top_k": 20}
    assert not model.sampling.from_model


def test_a_model_of_the_file_has_a_table_of_its_own(load):
    toml = ONE + "[models.a.sampling]\ntemperature = 0\n" + ONE.replace("models.a", "models.b")
    settings = load(toml=toml)
    assert settings.models["a"].sampling.given == {"temperature": 0.0}
    assert settings.models["b"].sampling == SamplingSettings()
    assert settings.models["b"].sampling.from_model
    shown = settings.value("models.a.sampling.temperature")
    assert (shown.value, shown.origin) == (0.0, "jarvis.toml [models.a.sampling]")
    assert shown.help


def test_variables_beside_models_of_the_file_are_said_to_have_no_effect(load):
    settings = load(toml=ONE, env={"JARVIS_SAMPLING_TEMPERATURE": "0.2"})
    assert settings.models["a"].sampling.given == {}
    assert settings.warnings == (
        "JARVIS_SAMPLING_TEMPERATURE (environment) has no effect: jarvis.toml names the models"
        " and JARVIS_MODEL_NAME is not set",
    )


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (
            "{temperture = 0.2}",
            "jarvis.toml [models.a.sampling]: unknown setting 'temperture'; did you mean "
            "temperature? (there are: temperature, top_p, top_k, min_p, typical_p, "
            "repetition_penalty, presence_penalty, frequency_penalty, max_tokens, from_model)",
        ),
        (
            "{temperature = 2.5}",
            "temperature is 2.5 (jarvis.toml [models.a.sampling]): must be a number from 0 to 2",
        ),
        (
            '{temperature = "0.2"}',
            "temperature is '0.2' (jarvis.toml [models.a.sampling]): must be a number from 0 to 2",
        ),
        (
            "{top_p = nan}",
            "top_p is nan (jarvis.toml [models.a.sampling]): must be a number from 0 to 1",
        ),
        (
            "{top_k = 2_147_483_648}",
            "top_k is 2147483648 (jarvis.toml [models.a.sampling]): "
            "must be a whole number from -1 to 2147483647",
        ),
        ("0.2", "sampling is 0.2 (jarvis.toml [models.a]): must be a table"),
        (
            "{min_p = 0.1}",
            "jarvis.toml [models.a.sampling]: engine 'llama_cpp' cannot honour min_p: remove it, "
            "or serve the model with another engine",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_start(load, sampling, message):
    with pytest.raises(SettingError) as caught:
        load(toml=f"{ONE}sampling = {sampling}\n")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TOP_P", "1.5", "JARVIS_SAMPLING_TOP_P is '1.5' (environment): must be a number from 0"),
        ("TYPICAL_P", "0.9", "JARVIS_SAMPLING_*: engine 'llama_cpp' cannot honour typical_p"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_at_start(load, name, value, message):
    with pytest.raises(SettingError) as caught:
        load(env={f"JARVIS_SAMPLING_{name}": value})
    assert caught.value.message.startswith(message)


def test_a_misspelt_variable_is_named_with_the_nearest(load):
    settings = load(env={"JARVIS_SAMPLING_TEMPERTURE": "1"})
    assert settings.warnings == (
        "JARVIS_SAMPLING_TEMPERTURE (environment) is not a setting of Jarvis; did you mean "
        "JARVIS_SAMPLING_TEMPERATURE?",
    )


def test_what_an_engine_elsewhere_honours_is_not_known_at_start(load):
    toml = ONE + 'python = "/v/bin/python"\nsampling = {min_p = 0.1}\n'
    assert load(toml=toml).models["a"].sampling.given == {"min_p": 0.1}
