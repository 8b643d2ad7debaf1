from __future__ import annotations

import pytest

from jarvis_core import SettingError


def test_defaults_without_any_source(load):
    settings = load()
    assert settings.server.host == "127.0.0.1"
    assert settings.server.port == 8000
    assert settings.server.max_body_bytes == 32 * 1024 * 1024
    assert settings.warnings == ()
    assert {v.origin for v in settings.values} == {"default"}


LAYERS = {
    "options": {"port": "9001"},
    "env": {"JARVIS_PORT": "9002"},
    "dotenv": "JARVIS_PORT=9003\n",
    "toml": "[server]\nport = 9004\n",
}


@pytest.mark.parametrize(
    ("strongest", "port", "origin"),
    [
        ("options", 9001, "command line"),
        ("env", 9002, "environment"),
        ("dotenv", 9003, ".env line 1"),
        ("toml", 9004, "jarvis.toml [server]"),
    ],
)
def test_the_stronger_layer_wins(load, strongest, port, origin):
    weaker = list(LAYERS)[list(LAYERS).index(strongest) :]
    settings = load(**{layer: LAYERS[layer] for layer in weaker})
    assert settings.server.port == port
    assert settings.value("JARVIS_PORT").origin == origin


def test_an_empty_value_counts_as_not_set(load):
    settings = load(options={"port": ""}, env={"JARVIS_PORT": "  "}, dotenv="JARVIS_PORT=9003\n")
    assert settings.server.port == 9003


def test_an_option_that_is_not_given_changes_nothing(load):
    assert load(options={"port": None}).server.port == 8000


@pytest.mark.parametrize("name", ["port", "JARVIS_PORT", "Port"])
def test_an_option_may_be_named_as_its_variable(load, name):
    assert load(options={name: "9001"}).server.port == 9001


def test_an_unknown_option_is_refused_with_the_nearest_name(load):
    with pytest.raises(SettingError) as caught:
        load(options={"prot": "9001"})
    assert (
        caught.value.message
        == "command line: prot is not a setting of Jarvis; did you mean JARVIS_PORT?"
    )


def test_an_older_name_of_a_variable_is_accepted(load):
    settings = load(env={"DEBUG": "true", "JARVIS_N_BATCH": "64", "LLAMA_LOG_LEVEL": "INFO"})
    assert settings.server.debug is True
    assert settings.models["smollm2"].settings == {"n_batch": 64, "log_level": "info"}
    assert settings.value("JARVIS_LLAMACPP_N_BATCH").value == 64


def test_the_preferred_name_wins_inside_a_layer_with_a_warning(load):
    settings = load(env={"JARVIS_N_BATCH": "64", "JARVIS_LLAMACPP_N_BATCH": "32"})
    assert settings.value("JARVIS_LLAMACPP_N_BATCH").value == 32
    assert settings.warnings == (
        "JARVIS_N_BATCH (environment) has no effect: JARVIS_LLAMACPP_N_BATCH sets the same",
    )


def test_an_older_name_in_a_stronger_layer_wins(load):
    settings = load(env={"JARVIS_N_BATCH": "64"}, dotenv="JARVIS_LLAMACPP_N_BATCH=32\n")
    assert settings.value("JARVIS_LLAMACPP_N_BATCH").value == 64


@pytest.mark.parametrize("source", ["env", "dotenv"])
def test_an_unknown_variable_is_a_warning_with_the_nearest_name(load, source):
    content = {"env": {"JARVIS_MODEL_NAM": "x"}, "dotenv": "JARVIS_MODEL_NAM=x\n"}[source]
    origin = {"env": "environment", "dotenv": ".env line 1"}[source]
    assert load(**{source: content}).warnings == (
        f"JARVIS_MODEL_NAM ({origin}) is not a setting of Jarvis; did you mean JARVIS_MODEL_NAME?",
    )


def test_an_unknown_variable_unlike_any_other_names_the_command_that_lists_all(load):
    (warning,) = load(env={"JARVIS_XYZZY": "x"}).warnings
    assert warning == (
        "JARVIS_XYZZY (environment) is not a setting of Jarvis; `jarvis settings` lists all of them"
    )


def test_the_variable_that_names_plugins_counts_in_the_environment_only(load):
    settings = load(env={"JARVIS_PLUGINS": "a, b"}, dotenv="JARVIS_PLUGINS=c\n")
    assert settings.value("JARVIS_PLUGINS").value == ("a", "b")
    assert settings.warnings == (
        "JARVIS_PLUGINS (.env line 1) has no effect: set it in the environment",
    )


def test_variables_of_other_programs_are_passed_over(load):
    assert load(env={"PORT": "1", "HOME": "/root"}, dotenv="SECRET=1\n").warnings == ()


@pytest.mark.parametrize(
    ("layer", "origin"),
    [
        ({"options": {"port": "80k"}}, "command line"),
        ({"env": {"JARVIS_PORT": "80k"}}, "environment"),
        ({"dotenv": "\n# here\nJARVIS_PORT=80k\n"}, ".env line 3"),
        ({"toml": '[server]\nport = "80k"\n'}, "jarvis.toml [server]"),
    ],
)
def test_a_bad_value_names_setting_value_origin_and_what_is_allowed(load, layer, origin):
    with pytest.raises(SettingError) as caught:
        load(**layer)
    assert (
        caught.value.message
        == f"JARVIS_PORT is '80k' ({origin}): must be a whole number from 0 to 65535"
    )


def test_a_bad_value_of_a_setting_that_is_overruled_is_not_looked_at(load):
    assert load(options={"port": "9001"}, env={"JARVIS_PORT": "80k"}).server.port == 9001


def test_a_bad_value_of_many_lines_stays_on_one(load):
    with pytest.raises(SettingError) as caught:
        load(env={"JARVIS_PORT": "x\n" * 500})
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


def test_a_bad_secret_is_not_repeated(load):
    with pytest.raises(SettingError) as caught:
        load(toml="[server]\napi_key = 12345\n")
    assert caught.value.message == "JARVIS_API_KEY (jarvis.toml [server]): must be text"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[server]\nprot = 1\n",
            "jarvis.toml [server]: unknown setting 'prot'; did you mean port? (there are: host, ",
        ),
        (
            "[sever]\n",
            "jarvis.toml: unknown setting 'sever'; did you mean server?"
            " (there are: server, models)",
        ),
        ("server = 1\n", "jarvis.toml: server must be a table, [server]"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(load, toml, message):
    with pytest.raises(SettingError) as caught:
        load(toml=toml)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_a_loopback_address_needs_no_key(load, host):
    assert load(env={"JARVIS_HOST": host}).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "localhost.evil"])
def test_an_address_that_others_reach_needs_a_key(load, host):
    """S-02."""
    with pytest.raises(SettingError) as caught:
        load(env={"JARVIS_HOST": host})
    assert caught.value.message == (
        f"JARVIS_HOST is {host!r} (environment): others can reach this address, and"
        " neither JARVIS_API_KEY nor JARVIS_KEYS_FILE is set; set one of them, or JARVIS_HOST to"
        " 127.0.0.1"
    )
    assert load(env={"JARVIS_HOST": host, "JARVIS_API_KEY": "k"}).server.host == host


def test_an_admin_key_alone_does_not_open_the_address_to_others(load):
    """S-02."""
    with pytest.raises(SettingError, match="neither JARVIS_API_KEY"):
        load(env={"JARVIS_HOST": "0.0.0.0", "JARVIS_ADMIN_API_KEY": "k"})


def test_a_key_that_holds_no_key_is_refused(load):
    """S-02."""
    with pytest.raises(SettingError) as caught:
        load(env={"JARVIS_HOST": "0.0.0.0", "JARVIS_API_KEY": " , "})
    assert caught.value.message == (
        "JARVIS_API_KEY (environment): must be keys separated by commas; it holds none"
    )


def test_values_show_every_setting_once_and_no_secret(load):
    settings = load(
        env={"JARVIS_API_KEY": "canary-1", "JARVIS_ECHO_TOKEN": "canary-2"},
        toml='[models.a]\nsource = "x/y"\nengine = "echo"\nsettings = {token = "canary-3"}\n',
    )
    names = [value.name for value in settings.values]
    assert len(names) == len(set(names))
    assert {"JARVIS_MODEL_NAME", "JARVIS_LLAMACPP_FLASH", "models.a.source"} <= set(names)
    assert settings.value("JARVIS_API_KEY").shown == "set"
    assert settings.value("JARVIS_ADMIN_API_KEY").shown == "not set"
    assert settings.value("models.a.settings.token").shown == "set"
    assert "canary" not in " ".join(value.shown for value in settings.values)


def test_a_value_makes_the_error_for_who_finds_out_later(load):
    port = load(dotenv="JARVIS_PORT=9003\n").value("JARVIS_PORT")
    assert (
        port.error("already in use").message == "JARVIS_PORT is 9003 (.env line 1): already in use"
    )
