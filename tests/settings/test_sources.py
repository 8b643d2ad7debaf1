from __future__ import annotations

import pytest

from jarvis_core import SettingError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("JARVIS_MODEL_ID=phi", "phi"),
        ("JARVIS_MODEL_ID=phi   # the small one", "phi"),
        ("JARVIS_MODEL_ID='a # b'  # the small one", "a # b"),
        ('JARVIS_MODEL_ID="a # b"', "a # b"),
        ("export JARVIS_MODEL_ID=phi", "phi"),
        ("  JARVIS_MODEL_ID = phi  ", "phi"),
        ("JARVIS_MODEL_ID=a#b", "a#b"),
        ("JARVIS_MODEL_ID=a=b", "a=b"),
        ("JARVIS_MODEL_ID=${HOME}-$x", "${HOME}-$x"),
        ("JARVIS_MODEL_ID=größe", "größe"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_dotenv_lines_of_every_kind(load, line, value, end):
    assert load(dotenv=f"{line}{end}").value("JARVIS_MODEL_ID").value == value


@pytest.mark.parametrize("line", ["", "= # later", "=''", "=   "])
def test_a_dotenv_name_without_a_value_is_not_set(load, line):
    assert load(dotenv=f"JARVIS_MODEL_ID{line}\n").value("JARVIS_MODEL_ID").origin == "default"


def test_a_byte_order_mark_is_no_part_of_the_first_name(load):
    mark = b"\xef\xbb\xbf"
    settings = load(dotenv=mark + b"JARVIS_PORT=9001\n", toml=mark + b"[server]\nmax_n = 3\n")
    assert (settings.server.port, settings.server.max_n) == (9001, 3)
    assert settings.warnings == ()


def test_the_last_of_two_dotenv_lines_wins_with_a_warning(load):
    settings = load(dotenv="JARVIS_PORT=9001\r\n\r\n# again\r\n\r\nJARVIS_PORT=9002\r\nA=1\r\nA=2")
    assert settings.server.port == 9002
    assert settings.value("JARVIS_PORT").origin == ".env line 5"
    assert settings.warnings == (
        "JARVIS_PORT (.env line 1) has no effect: .env line 5 sets it again",
    )


def test_a_dotenv_line_of_ours_that_makes_no_sense_is_refused_without_its_text(load, tmp_path):
    with pytest.raises(SettingError) as caught:
        load(dotenv='A=1\nJARVIS_API_KEY="canary\n')
    assert caught.value.message == (
        f"{tmp_path}/.env line 2: not NAME=value; is a quotation mark left open?"
    )


def test_a_dotenv_line_of_another_program_that_makes_no_sense_is_passed_over(load):
    assert load(dotenv='OTHER="canary\nJARVIS_PORT=9001\n').server.port == 9001


def test_a_directory_called_dotenv_is_no_settings_file(load, tmp_path):
    (tmp_path / ".env").mkdir()
    assert load().server.port == 8000


def test_a_directory_called_jarvis_toml_is_refused(load, tmp_path):
    # Docker makes one where it shall mount a file that is not there.
    (tmp_path / "jarvis.toml").mkdir()
    with pytest.raises(SettingError) as caught:
        load()
    assert caught.value.message == f"{tmp_path}/jarvis.toml: cannot be read: Is a directory"


@pytest.mark.parametrize("name", ["dotenv", "toml"])
def test_a_file_that_is_not_text_is_named(load, tmp_path, name):
    with pytest.raises(SettingError) as caught:
        load(**{name: "JARVIS_PORT=1\n".encode("utf-16")})
    file = {"dotenv": ".env", "toml": "jarvis.toml"}[name]
    assert caught.value.message == f"{tmp_path}/{file}: not UTF-8 text (byte 0)"


def test_a_file_that_cannot_be_read_is_named(load, tmp_path):
    (tmp_path / "jarvis.toml").symlink_to(tmp_path / ("x" * 300))
    with pytest.raises(SettingError, match=r"jarvis\.toml: cannot be read: File name too long"):
        load()


def test_toml_that_is_none_is_named_with_its_position(load, tmp_path):
    with pytest.raises(SettingError) as caught:
        load(toml="[server]\nport = \n")
    assert caught.value.message == (
        f"{tmp_path}/jarvis.toml: not valid TOML: Invalid value (at line 2, column 8)"
    )


def test_toml_nested_without_end_is_refused(load):
    with pytest.raises(SettingError, match="not valid TOML: nested too deeply"):
        load(toml="a = " + "[" * 100_000)
