"""``jarvis plugins``: what is installed, and why something is broken."""

from __future__ import annotations

import json

import click

from jarvis_core.plugins import PluginReport, load_plugins


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List engines and chat formats, and the plugins that bring them."""
    reports = load_plugins().plugins
    if as_json:
        click.echo(json.dumps([_record(report) for report in reports], indent=2))
        return
    from jarvis_core.cli.table import print_table

    print_table(
        ["plugin", "distribution", "version", "state", "engines", "chat formats"],
        [
            [
                report.name,
                report.distribution,
                report.version,
                _state(report),
                ", ".join(report.engines),
                ", ".join(report.chat_formats),
            ]
            for report in reports
        ],
    )
    for report in reports:
        if report.error is not None:
            click.echo(f"\n{report.name} is broken: {report.error}")
    if not any(report.engines for report in reports):
        click.echo("\nNo engine is installed. For GGUF models: pip install jarvis-llamacpp")


def _state(report: PluginReport) -> str:
    return "ok" if report.error is None else "broken"


def _record(report: PluginReport) -> dict[str, object]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "state": _state(report),
        "engines": list(report.engines),
        "chat_formats": list(report.chat_formats),
        "error": report.error,
    }
