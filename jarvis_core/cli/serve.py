"""``jarvis serve``: the options, and everything up to the start of the server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
from attrs import evolve

from jarvis_core.errors import SettingError
from jarvis_core.plugins import Registry, load_plugins
from jarvis_core.settings import ServerSettings, Settings, load_settings, settings_of
from jarvis_core.settings.model import SingleModel

OPTIONS = {
    "--engine": "inference_engine",
    "--model": "model_name",
    "--model-id": "model_id",
    "--chat-format": "model_chat_format",
    "--context-window": "model_context_window",
    "--host": "host",
    "--port": "port",
    "--api-key": "api_key",
    "--log-level": "log_level",
    "--log-format": "log_format",
}
"""Options of the command line and the settings that they set; ``--set`` reaches the others."""


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each of ``OPTIONS``, with the help of its setting."""
    known = {s.name: s for cls in (SingleModel, ServerSettings) for s in settings_of(cls)}
    for option, name in reversed(OPTIONS.items()):
        text = known[name].help
        if known[name].choices:
            text += f" ({', '.join(known[name].choices)})"
        if known[name].secret:
            text += "; other users of this machine see the command line, so rather set the variable"
        # Text whatever the type: settings check it and name the option as the origin.
        add = click.option(option, name, metavar="VALUE", help=f"{text}.")
        function = add(function)
    return function


@click.command("serve")
@_with_options
@click.option("--debug", is_flag=True, help="Log at level debug.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting by its variable, as --set JARVIS_QUEUE_SIZE=64. `jarvis settings`"
    " lists all.",
)
@click.pass_context
def command(
    ctx: click.Context, /, debug: bool, assignments: tuple[str, ...], **options: str | None
) -> None:
    """Serve the configured models over HTTP.

    Settings come from these options, the environment, .env and jarvis.toml in the current
    directory, the first that says something wins.
    """
    options["debug"] = "true" if debug else None
    settings, registry = prepare({**options, **assigned(assignments)})
    # Imported here: a mistake in the settings is told without waiting for the server's libraries.
    from jarvis_core.cli.announcer import Announcer
    from jarvis_core.http.serve import run

    ctx.exit(run(settings, registry, announce=Announcer(settings)))


def assigned(assignments: Iterable[str]) -> dict[str, str]:
    """The settings of ``--set``, by name.

    Raises:
        SettingError: One has no equals sign.
    """
    options = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign:
            # The text may be a key: it is not repeated.
            raise SettingError("--set (command line): must be NAME=VALUE; the = is missing")
        options[name.strip()] = value
    return options


def prepare(options: Mapping[str, str | None]) -> tuple[Settings, Registry]:
    """Everything that ``run`` needs; warnings are printed to standard error.

    Args:
        options: The command line, by name of setting or variable; None is not given.

    Raises:
        ConfigError: The operator has to change something.
    """
    registry = load_plugins()
    settings = load_settings(
        options=options,
        environ=os.environ,
        directory=Path.cwd(),
        engines=registry.engines,
        broken=registry.broken,
    )
    settings = name_chat_formats(settings, registry)
    for plugin in registry.broken:
        _warn(f"plugin {plugin.name!r} ({plugin.distribution}) is left out: {plugin.error}")
    for warning in settings.warnings:
        _warn(warning)
    return settings, registry


def _warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def name_chat_formats(settings: Settings, registry: Registry) -> Settings:
    """The settings with each chat format by its own name, before anything is loaded.

    Raises:
        PluginError: One does not exist; the message lists those that do.
    """
    models = {
        # Another Python has its own plugins: its engine host checks.
        key: model
        if model.chat_format == "auto" or model.python is not None
        else evolve(model, chat_format=registry.chat_format(model.chat_format).name)
        for key, model in settings.models.items()
    }
    return evolve(settings, models=models)
