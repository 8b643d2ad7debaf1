from __future__ import annotations

import pytest

from jarvis_core import PluginError, SettingError
from jarvis_core.cli.serve import OPTIONS, assigned, prepare

FAKE = {"inference_engine": "fake", "model_name": "org/parrot"}


def test_options_become_settings(monkeypatch):
    monkeypatch.setenv("JARVIS_PORT", "9002")
    settings, registry = prepare(
        {**FAKE, "port": "9001", "model_id": "polly", "debug": "true", "host": None}
    )
    assert settings.server.port == 9001
    assert settings.server.debug is True
    assert settings.models["polly"].engine == "fake"
    assert settings.value("JARVIS_PORT").origin == "command line"
    assert "fake" in registry.engines


def test_files_are_read_from_the_current_directory(directory):
    (directory / ".env").write_text("JARVIS_PORT=9003\n")
    (directory / "jarvis.toml").write_text(
        '[server]\nmax_n = 3\n[models.polly]\nsource = "x"\nengine = "fake"\n'
    )
    settings, _ = prepare({})
    assert (settings.server.port, settings.server.max_n) == (9003, 3)
    assert list(settings.models) == ["polly"]


def test_any_setting_can_be_set_by_its_variable():
    options = assigned(["JARVIS_QUEUE_SIZE=64", "api_key = a=b", "port="])
    assert options == {"JARVIS_QUEUE_SIZE": "64", "api_key": " a=b", "port": ""}
    settings, _ = prepare({**FAKE, **options})
    assert (settings.server.queue_size, settings.server.api_key) == (64, "a=b")


def test_a_set_without_a_value_is_refused_without_its_text():
    with pytest.raises(SettingError) as caught:
        assigned(["canary"])
    assert caught.value.message == "--set (command line): must be NAME=VALUE; the = is missing"


def test_warnings_go_to_standard_error(capsys, directory, monkeypatch):
    (directory / "broken_plugin.py").write_text("raise ImportError('gone')")
    monkeypatch.syspath_prepend(directory)
    monkeypatch.setenv("JARVIS_PLUGINS", "jarvis_core.testing.fake,broken_plugin")
    monkeypatch.setenv("JARVIS_PRT", "1")
    prepare(FAKE)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-2:] == [
        "warning: plugin 'broken_plugin' (JARVIS_PLUGINS) is left out: ImportError: gone",
        "warning: JARVIS_PRT (environment) is not a setting of Jarvis; did you mean JARVIS_PORT?",
    ]


def test_a_chat_format_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(PluginError) as caught:
        prepare({**FAKE, "model_chat_format": "chatlm"})
    assert caught.value.message.startswith("chat format 'chatlm' does not exist; there are: auto, ")
    assert "fake" in caught.value.message


def test_the_chat_format_of_a_model_of_another_python_is_not_checked_here(directory):
    (directory / "jarvis.toml").write_text(
        '[models.a]\nsource = "x"\nengine = "fake"\nchat_format = "newer"\npython = "/v/python"\n'
    )
    settings, _ = prepare({})
    assert settings.models["a"].chat_format == "newer"


def test_help_explains_every_option(jarvis):
    result = jarvis("serve", "--help")
    assert result.exit_code == 0
    for option in [*OPTIONS, "--debug", "--set"]:
        assert f"  {option} " in result.output


def test_help_comes_even_if_a_setting_is_wrong(jarvis):
    assert jarvis("serve", "--help", JARVIS_PORT="x").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (
            ["--port", "x"],
            {},
            "JARVIS_PORT is 'x' (command line): must be a whole number from 0 to 65535",
        ),
        (
            ["--engine", "fake"],
            {},
            "JARVIS_MODEL_NAME is not set: engine 'fake' has no model of its own;"
            " set JARVIS_MODEL_NAME to the path or hub id of one",
        ),
        (
            ["--engine", "fake", "--model", "m", "--host", "0.0.0.0"],
            {},
            "JARVIS_HOST is '0.0.0.0' (command line): others can reach this address, and"
            " neither JARVIS_API_KEY nor JARVIS_KEYS_FILE is set; set one of them, or"
            " JARVIS_HOST to 127.0.0.1",
        ),
        (
            ["--set", "prot=1"],
            {},
            "command line: prot is not a setting of Jarvis; did you mean JARVIS_PORT?",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(process, arguments, environ, line):
    done = process("serve", *arguments, **environ)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"jarvis: {line}\n")


def test_an_engine_that_is_not_installed_is_one_line_and_exit_code_2(process):
    done = process("serve", JARVIS_INFERENCE_ENGINE="nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "jarvis: engine 'nowhere' is not installed: pip install jarvis-nowhere (installed engines: "
    )
    assert done.stderr.count("\n") == 1
