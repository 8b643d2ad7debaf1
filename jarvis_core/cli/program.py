"""The program ``jarvis``: finds a command, and ends with one line where something is wrong."""

from __future__ import annotations

from importlib import import_module
from typing import IO, Any

import click

from jarvis_core.errors import ConfigError, JarvisError

COMMANDS = ("new-plugin", "plugins", "serve", "settings")
INTERRUPTED = 130


class Refusal(click.ClickException):
    """An error of Jarvis as the command line shows it: one line."""

    def __init__(self, error: JarvisError) -> None:
        super().__init__(" ".join(error.message.splitlines()))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line, by default to standard error."""
        click.echo(f"jarvis: {self.message}", file=file, err=file is None)


class ConfigRefusal(Refusal):
    """An error that the operator can mend."""

    exit_code = 2


class Program(click.Group):
    """Imports a command's file only when it is called: ``jarvis --version`` must be quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command = import_module(f"jarvis_core.cli.{module}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise ConfigRefusal(error) from error
        except JarvisError as error:
            raise Refusal(error) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jarvis-core", message="jarvis %(version)s")
def program() -> None:
    """Serve language models over HTTP, in the wire format of OpenAI."""


def main() -> None:
    """Run ``jarvis`` with the arguments of this process, and exit."""
    program.main(prog_name="jarvis")
