from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from jarvis_core import ConfigError, EngineDied
from jarvis_core.cli.program import COMMANDS, Program

VERSION = f"jarvis {version('jarvis-core')}\n"


def test_the_version_is_that_of_the_distribution(jarvis):
    assert jarvis("--version").output == VERSION


def test_the_module_is_the_same_program(process):
    assert process("--version").stdout == VERSION


def test_the_script_is_installed():
    script = shutil.which("jarvis", path=str(sys.prefix) + "/bin")
    assert script is not None
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, VERSION, "")


def test_the_version_needs_no_library_of_the_server():
    heavy = {"sanic", "rich", "cattrs", "structlog", "huggingface_hub", "jinja2", "dotenv"}
    code = (
        "import sys; from jarvis_core.cli.program import program;"
        "program.main(['--version'], standalone_mode=False);"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(jarvis, flag):
    result = jarvis(flag)
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


def test_an_unknown_command_is_refused(jarvis):
    result = jarvis("serv")
    assert result.exit_code == 2
    assert "No such command 'serv'" in result.output


def failing(error: BaseException) -> Program:
    """A program whose only command raises."""

    @click.command("boom")
    def boom() -> None:
        raise error

    class Failing(Program):
        def get_command(self, ctx, cmd_name):
            return boom

    return Failing(name="jarvis")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such\nfile"), 2, "jarvis: no such file\n"),
        (EngineDied("it died"), 1, "jarvis: it died\n"),
    ],
)
def test_an_error_is_one_line_on_standard_error(error, code, line):
    from click.testing import CliRunner

    result = CliRunner().invoke(failing(error), ["boom"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line)


def test_ctrl_c_ends_without_a_word():
    from click.testing import CliRunner

    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["boom"])
    assert (result.exit_code, result.output) == (130, "")
