"""``jarvis settings``: every setting with its value, its origin and its help."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from jarvis_core.errors import ConfigError
from jarvis_core.plugins import load_plugins
from jarvis_core.settings import SettingValue, read_settings


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Print every setting with its value and where it comes from; secrets are never printed."""
    registry = load_plugins()
    reading = read_settings(
        options={},
        environ=os.environ,
        directory=Path.cwd(),
        engines=registry.engines,
        broken=registry.broken,
    )
    try:
        settings = reading.complete()
    except ConfigError:
        # The table shows how the settings came to what is refused.
        _show(reading.values, reading.warnings, as_json)
        raise
    _show(settings.values, settings.warnings, as_json)


def _show(values: Sequence[SettingValue], warnings: Sequence[str], as_json: bool) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        records = [_record(value) for value in values]
        click.echo(json.dumps(records, indent=2, default=str))
        return
    from jarvis_core.cli.table import print_table

    print_table(
        ["setting", "value", "origin", "help"],
        [[value.name, value.shown, value.origin, value.help] for value in values],
    )


def _record(value: SettingValue) -> dict[str, Any]:
    return {
        "name": value.name,
        "value": value.shown if value.secret else value.value,
        "origin": value.origin,
        "help": value.help,
        "secret": value.secret,
    }
