from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from jarvis_core import PluginError, SettingError
from jarvis_core.plugins import PluginReport
from jarvis_core.settings import ModelConfig


def test_the_built_in_model_is_served_where_none_is_named(load):
    assert load().models == {"smollm2": ModelConfig(name="smollm2", source="smollm2")}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/models/Phi-3.Q4_K_M.gguf", "Phi-3.Q4_K_M"),
        ("phi3.gguf", "phi3"),
        ("/models/phi3", "phi3"),
        ("/models/v1.5/", "v1.5"),
        ("models/phi3", "phi3"),
        ("./models/../phi3", "phi3"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B-Instruct"),
        ("bartowski/Phi-3-GGUF:Q4_K_M", "Phi-3-GGUF"),
    ],
)
def test_a_model_is_called_by_the_end_of_its_source_and_by_all_of_it(load, source, name):
    (model,) = load(env={"JARVIS_MODEL_NAME": source}).models.values()
    assert (model.name, model.source, model.aliases) == (name, source, (source,))


def test_a_dot_is_called_by_the_directory_that_it_stands_for(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (model,) = load(env={"JARVIS_MODEL_NAME": "."}).models.values()
    assert model.name == tmp_path.name


def test_a_tilde_in_a_source_is_the_home_directory(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    (model,) = load(dotenv="JARVIS_MODEL_NAME=~/phi3.gguf\n").models.values()
    assert model.source == "/home/ada/phi3.gguf"


def test_the_variables_of_the_single_model(load):
    settings = load(
        env={
            "JARVIS_INFERENCE_ENGINE": "echo",
            "JARVIS_MODEL_NAME": "org/parrot",
            "JARVIS_MODEL_ID": "polly",
            "JARVIS_MODEL_CHAT_FORMAT": "chatml",
            "JARVIS_MODEL_CONTEXT_WINDOW": "2048",
            "JARVIS_ECHO_VOICE": "loud",
            "JARVIS_LLAMACPP_N_BATCH": "64",
        }
    )
    assert settings.models == {
        "polly": ModelConfig(
            name="polly",
            source="org/parrot",
            engine="echo",
            chat_format="chatml",
            aliases=("org/parrot",),
            context_length=2048,
            settings={"voice": "loud"},
        )
    }


def test_the_built_in_model_may_be_called_otherwise(load):
    (model,) = load(env={"JARVIS_MODEL_ID": "tiny"}).models.values()
    assert (model.name, model.source, model.aliases) == ("tiny", "smollm2", ("smollm2",))


def test_an_engine_without_a_model_of_its_own_needs_one_named(load):
    with pytest.raises(SettingError) as caught:
        load(env={"JARVIS_INFERENCE_ENGINE": "echo"})
    assert caught.value.message == (
        "JARVIS_MODEL_NAME is not set: engine 'echo' has no model of its own;"
        " set JARVIS_MODEL_NAME to the path or hub id of one"
    )


@pytest.mark.parametrize("env", [{}, {"JARVIS_MODEL_NAME": "x/y"}])
def test_an_engine_that_is_not_installed_is_named_with_what_to_install(load, env):
    with pytest.raises(PluginError) as caught:
        load(env={"JARVIS_INFERENCE_ENGINE": "vllm", **env})
    assert caught.value.message == (
        "engine 'vllm' is not installed: pip install jarvis-vllm"
        " (installed engines: echo, llama_cpp)"
    )


def test_without_any_engine_the_message_says_so(load):
    with pytest.raises(PluginError) as caught:
        load(engines={})
    assert caught.value.message == (
        "engine 'llama_cpp' is not installed: pip install jarvis-llamacpp (installed engines: none)"
    )


def test_a_broken_plugin_is_named_where_its_engine_is_missed(load):
    broken = PluginReport(
        name="vllm", distribution="jarvis-vllm", version="0.1.0", error="ImportError: no torch"
    )
    with pytest.raises(PluginError, match=r"plugin 'vllm' .* is broken: ImportError: no torch"):
        load(env={"JARVIS_INFERENCE_ENGINE": "vllm"}, broken=(broken,))


TWO = """
[models.phi3]
source = "models/phi3.gguf"
aliases = ["phi", "phi-3"]
chat_format = "chatml"
preload = false
context_length = 4096
settings = { n_batch = 256, flash = true }

[models."org/parrot"]
source = "org/parrot"
engine = "echo"
"""


def test_models_of_the_file(load, tmp_path):
    assert load(toml=TWO).models == {
        "phi3": ModelConfig(
            name="phi3",
            source=str(tmp_path / "models/phi3.gguf"),
            chat_format="chatml",
            aliases=("phi", "phi-3"),
            preload=False,
            context_length=4096,
            settings={"n_batch": 256, "flash": True},
        ),
        "org/parrot": ModelConfig(name="org/parrot", source="org/parrot", engine="echo"),
    }


def test_a_model_that_variables_name_is_served_beside_those_of_the_file(load):
    settings = load(toml=TWO, env={"JARVIS_MODEL_NAME": "/m/tiny.gguf"})
    assert list(settings.models) == ["phi3", "org/parrot", "tiny"]
    assert settings.warnings == ()


def test_variables_of_a_model_that_is_not_named_have_no_effect_beside_the_file(load):
    settings = load(toml=TWO, env={"JARVIS_MODEL_ID": "x", "JARVIS_INFERENCE_ENGINE": "llama_cpp"})
    assert list(settings.models) == ["phi3", "org/parrot"]
    assert settings.warnings == (
        "JARVIS_MODEL_ID (environment) has no effect: jarvis.toml names the models"
        " and JARVIS_MODEL_NAME is not set",
    )


def test_the_engine_of_the_variables_is_that_of_models_that_name_none(load):
    settings = load(toml='[models.a]\nsource = "x/y"\n', env={"JARVIS_INFERENCE_ENGINE": "echo"})
    assert settings.models["a"].engine == "echo"


@pytest.mark.parametrize(
    "layer",
    [
        {"env": {"JARVIS_LLAMACPP_N_BATCH": "64"}},
        {"options": {"JARVIS_LLAMACPP_N_BATCH": "64"}},
        {"dotenv": "JARVIS_N_BATCH=64\n"},
    ],
)
def test_a_models_own_section_beats_the_engines_variables(load, layer):
    toml = (
        '[models.a]\nsource = "a.gguf"\nsettings = {n_batch = 256}\n[models.b]\nsource = "b.gguf"\n'
    )
    models = load(toml=toml, **layer).models
    assert models["a"].settings == {"n_batch": 256}
    assert models["b"].settings == {"n_batch": 64}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("phi3.gguf", "{dir}/phi3.gguf"),
        ("./phi3", "{dir}/phi3"),
        ("there", "{dir}/there"),
        ("org/there", "org/there"),
        ("/m/phi3", "/m/phi3"),
        ("~/phi3", "/home/ada/phi3"),
        ("org/phi3:Q4_K_M", "org/phi3:Q4_K_M"),
        ("smollm2", "smollm2"),
    ],
)
def test_a_path_in_the_file_starts_at_the_file(load, tmp_path, monkeypatch, written, read):
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "there").mkdir()
    (model,) = load(toml=f'[models.a]\nsource = "{written}"\n').models.values()
    assert model.source == read.format(dir=tmp_path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (".venv/bin/python", "{dir}/.venv/bin/python"),
        ("/v/bin/python", "/v/bin/python"),
        ("python3.12", "python3.12"),
    ],
)
def test_a_model_of_another_python_is_not_checked_here(load, tmp_path, written, read):
    settings = load(
        toml=f"""
        [models.a]
        source = "org/a"
        engine = "vllm"
        python = "{written}"
        settings = {{ tensor_parallel_size = 2, token = "canary" }}
        """
    )
    model = settings.models["a"]
    assert model.python == read.format(dir=tmp_path)
    assert model.settings == {"tensor_parallel_size": 2, "token": "canary"}
    assert "canary" not in "".join(value.shown for value in settings.values)


def test_a_model_of_another_python_gets_the_variables_of_an_engine_that_is_also_here(load):
    toml = '[models.a]\nsource = "x.gguf"\npython = "/v/bin/python"\nsettings = {newer = 1}\n'
    settings = load(toml=toml, env={"JARVIS_LLAMACPP_N_BATCH": "64"})
    assert settings.models["a"].settings == {"n_batch": 64, "newer": 1}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[models.a]\n",
            "jarvis.toml [models.a]: source is missing: Path or hub id of its weights;"
            " a relative path starts at jarvis.toml",
        ),
        (
            '[models.a]\nsource = ""\n',
            "source is '' (jarvis.toml [models.a]): must be a path or a hub id",
        ),
        (
            "[models]\na = 1\n",
            "jarvis.toml [models.a]: must be a table with a source, not 1",
        ),
        (
            '[models.a]\nsource = "x"\nengin = "y"\n',
            "jarvis.toml [models.a]: unknown setting 'engin'; did you mean engine? (there are: "
            "source, engine, chat_format, chat_template, aliases, preload, python, "
            "context_length, adapters, sampling, settings)",
        ),
        (
            '[models.a]\nsource = "x"\nname = "y"\n',
            "jarvis.toml [models.a]: unknown setting 'name' (there are: "
            "source, engine, chat_format, chat_template, aliases, preload, python, "
            "context_length, adapters, sampling, settings)",
        ),
        (
            '[models.a]\nsource = "x"\naliases = "y"\n',
            "aliases is 'y' (jarvis.toml [models.a]): must be a list of texts",
        ),
        (
            '[models.a]\nsource = "x"\nsettings = {n_bach = 1}\n',
            "jarvis.toml [models.a.settings]: unknown setting 'n_bach'; did you mean n_batch?"
            " (there are: n_batch, n_gpu_layers, log_level, flash)",
        ),
        (
            '[models.a]\nsource = "x"\nsettings = {flash = "false"}\n',
            "flash is 'false' (jarvis.toml [models.a.settings]): must be true or false",
        ),
        (
            '[models.a]\nsource = "x"\nengine = "vllm"\n',
            "engine 'vllm' is not installed: pip install jarvis-vllm"
            " (installed engines: echo, llama_cpp)",
        ),
        (
            '[models.a]\nsource = "x"\nengine = "echo"\nsettings = {pairs = 3}\n',
            "jarvis.toml [models.a.settings]: 'pairs' must be in [2, 4] (got 3)",
        ),
    ],
)
def test_a_section_that_is_wrong_is_refused(load, toml, message):
    with pytest.raises((SettingError, PluginError)) as caught:
        load(toml=toml)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("toml", "env"),
    [
        ('[models.a]\nsource = "x"\n[models.b]\nsource = "y"\naliases = ["a"]\n', {}),
        ('[models.a]\nsource = "x"\n', {"JARVIS_MODEL_NAME": "y", "JARVIS_MODEL_ID": "a"}),
        ('[models.b]\nsource = "x"\naliases = ["a"]\n', {"JARVIS_MODEL_NAME": "a"}),
    ],
)
def test_two_models_of_one_name_are_refused(load, toml, env):
    with pytest.raises(SettingError, match="^two models are called 'a': "):
        load(toml=toml, env=env)


def test_a_model_may_repeat_its_own_names(load):
    toml = '[models.a]\nsource = "x"\naliases = ["a", "b", "b"]\n'
    assert list(load(toml=toml).models) == ["a"]


@pytest.mark.parametrize("name", ["", " ", "a\\nb"])
def test_a_name_that_cannot_be_asked_for_is_refused(load, name):
    with pytest.raises(SettingError, match="cannot be called"):
        load(toml=f'[models."{name}"]\nsource = "x"\n')


def test_the_root_directory_has_no_name(load):
    with pytest.raises(SettingError, match=r"model '/' cannot be called ''.*JARVIS_MODEL_ID"):
        load(env={"JARVIS_MODEL_NAME": "/"})


def test_values_of_a_model_have_their_origin_and_help(load):
    settings = load(toml=TWO)
    batch = settings.value("models.phi3.settings.n_batch")
    assert (batch.value, batch.origin, batch.help) == (
        256,
        "jarvis.toml [models.phi3.settings]",
        "Tokens",
    )
    assert settings.value("models.phi3.python").origin == "default"
    assert settings.value("models.phi3.chat_format").origin == "jarvis.toml [models.phi3]"


def test_a_settings_class_that_is_none_is_the_plugins_error(load, engines):
    bad = evolve(engines["echo"], settings=dict)
    with pytest.raises(PluginError, match=r"engine 'echo'.*dict is no attrs class"):
        load(engines={"echo": bad})


def test_a_relative_path_of_a_variable_is_left_to_the_working_directory(load):
    (model,) = load(env={"JARVIS_MODEL_NAME": "phi3.gguf"}).models.values()
    assert Path(model.source) == Path("phi3.gguf")


def test_adapters_are_paths_beside_the_file(load, tmp_path):
    toml = '[models.a]\nsource = "a.gguf"\nadapters = {law = "adapters/law.gguf"}\n'
    (model,) = load(toml=toml).models.values()
    assert model.adapters == {"law": str(tmp_path / "adapters/law.gguf")}


def test_an_adapter_cannot_have_the_name_of_a_model(load):
    toml = '[models.a]\nsource = "a.gguf"\n[models.b]\nsource = "b.gguf"\nadapters = {a = "x"}\n'
    with pytest.raises(SettingError, match="two models are called 'a'"):
        load(toml=toml)
