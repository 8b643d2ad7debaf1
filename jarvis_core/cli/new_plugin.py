"""``jarvis new-plugin``: a project to begin from, whose tests pass at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from jarvis_core.errors import ConfigError

_ENDING = ".in"  # keeps tools from taking the files for Python of this project
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@click.group("new-plugin")
def command() -> None:
    """Make a project of a plugin: package, tests with the kit, CI file, README."""


def _made(kind: str, name: str, directory: Path | None) -> None:
    folder = directory or Path(f"jarvis-{name}")
    create(kind, name, folder)
    click.echo(f"Made {folder}. Next:\n  cd {folder}\n  pip install -e '.[test]'\n  pytest")


@command.command("format")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), help="Where; else jarvis-NAME.")
def make_format(name: str, directory: Path | None) -> None:
    """Make a project of the chat format NAME."""
    _made("format", name, directory)


@command.command("engine")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), help="Where; else jarvis-NAME.")
def make_engine(name: str, directory: Path | None) -> None:
    """Make a project of the engine NAME."""
    _made("engine", name, directory)


def create(kind: str, name: str, folder: Path) -> None:
    """Write a project.

    Args:
        kind: ``format`` or ``engine``.
        name: Of the format or engine.
        folder: Where; it is made, and must not hold anything.

    Raises:
        ConfigError: The name cannot be one, or the folder cannot be written to.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a plugin: it takes lower case letters, digits and "
            "single '-' or '_' between them"
        )
    words = _words(kind, name)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty: choose another --directory")
        for path, text in _skeleton(files("jarvis_core.cli") / "skeletons" / kind):
            target = folder / _filled(path.removesuffix(_ENDING), words)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(text, words), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error


def _words(kind: str, name: str) -> Mapping[str, str]:
    """What stands for each placeholder."""
    module = name.replace("-", "_")
    return {
        "NAME": module if kind == "engine" else name,
        "DISTRIBUTION": f"jarvis-{name}".replace("_", "-"),
        "PACKAGE": f"jarvis_{module}",
        "CLASS": "".join(part.capitalize() for part in module.split("_")),
        "UPPER": module.upper(),
        "CORE": ".".join(version("jarvis-core").split(".")[:2]),
    }


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub("@([A-Z]+)@", lambda found: words[found[1]], text)


def _skeleton(folder: Traversable, under: str = "") -> Iterator[tuple[str, str]]:
    """Paths and texts of a project's files, with placeholders."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{under}{entry.name}"
        if entry.is_dir():
            yield from _skeleton(entry, f"{path}/")
        elif entry.name.endswith(_ENDING):
            yield path, entry.read_text(encoding="utf-8")
