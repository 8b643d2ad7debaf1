from __future__ import annotations

import json


def test_every_setting_is_listed_with_value_origin_and_help(jarvis, directory):
    (directory / ".env").write_text("JARVIS_MAX_N=4\n")
    (directory / "jarvis.toml").write_text("[server]\nmax_stop = 3\n")
    result = jarvis("settings", JARVIS_INFERENCE_ENGINE="fake", JARVIS_MODEL_NAME="m")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["JARVIS_MAX_N"].split()[1:5] == ["4", ".env", "line", "1"]
    assert lines["JARVIS_MAX_N"].rstrip().endswith("Answers to one request at most")
    assert "jarvis.toml [server]" in lines["JARVIS_MAX_STOP"]
    assert lines["JARVIS_MODEL_NAME"].split()[1:3] == ["m", "environment"]
    assert lines["JARVIS_HOST"].split()[1:3] == ["127.0.0.1", "default"]
    assert any(name.startswith("JARVIS_FAKE_") for name in lines)


def test_a_narrow_terminal_folds_and_cuts_nothing_off(jarvis):
    result = jarvis(
        "settings",
        JARVIS_INFERENCE_ENGINE="fake",
        JARVIS_MODEL_NAME="@" * 100,
        COLUMNS="80",
    )
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.count("@") == 100
    assert "\nJARVIS_MODEL_CONTEXT_WINDOW " in result.stdout


def test_json_has_the_same(jarvis):
    result = jarvis(
        "settings",
        "--json",
        JARVIS_INFERENCE_ENGINE="fake",
        JARVIS_MODEL_NAME="m",
        JARVIS_CORS_ORIGINS="https://a, https://b",
    )
    settings = {record["name"]: record for record in json.loads(result.stdout)}
    assert settings["JARVIS_CORS_ORIGINS"] == {
        "name": "JARVIS_CORS_ORIGINS",
        "value": ["https://a", "https://b"],
        "origin": "environment",
        "help": "Origins of web pages that may call this server",
        "secret": False,
    }
    assert settings["JARVIS_PORT"]["value"] == 8000


def test_secrets_are_never_printed(jarvis, directory):
    """S-09."""
    (directory / ".env").write_text("JARVIS_ADMIN_API_KEY=canary\n")
    for arguments in (["settings"], ["settings", "--json"]):
        result = jarvis(
            *arguments,
            JARVIS_API_KEY="canary",
            JARVIS_INFERENCE_ENGINE="fake",
            JARVIS_MODEL_NAME="m",
        )
        assert result.exit_code == 0
        assert "canary" not in result.output


def test_warnings_go_to_standard_error(jarvis):
    result = jarvis(
        "settings",
        "--json",
        JARVIS_INFERENCE_ENGINE="fake",
        JARVIS_MODEL_NAME="m",
        JARVIS_PRT="1",
    )
    assert result.stderr == (
        "warning: JARVIS_PRT (environment) is not a setting of Jarvis; did you mean JARVIS_PORT?\n"
    )
    assert json.loads(result.stdout)


def test_settings_that_are_refused_together_are_shown_before_the_reason(jarvis):
    result = jarvis("settings", JARVIS_INFERENCE_ENGINE="nowhere")
    assert result.exit_code == 2
    assert "JARVIS_INFERENCE_ENGINE" in result.stdout
    assert result.stderr.startswith(
        "jarvis: engine 'nowhere' is not installed: pip install jarvis-nowhere"
    )


def test_a_bad_value_is_one_line(jarvis):
    result = jarvis("settings", JARVIS_PORT="x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "jarvis: JARVIS_PORT is 'x' (environment): must be a whole number from 0 to 65535\n"
    )


def test_a_value_that_is_no_text_is_still_printed(process):
    done = process(
        "settings",
        JARVIS_INFERENCE_ENGINE="fake",
        JARVIS_MODEL_NAME="m",
        JARVIS_CORS_ORIGINS=b"\xff[b]".decode("utf-8", "surrogateescape"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\udcff[b]" in done.stdout
