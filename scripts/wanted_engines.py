"""Prints the engines that the settings ask for, before anything is installed.

A line is an engine and what it is to load: ``named`` for a model that somebody chose, ``built-in``
for the one that comes with llama_cpp, ``none`` where there is neither. Command line > environment >
``.env`` > ``jarvis.toml``, as in the server, which reads it all again and reports what is wrong:
what cannot be read here is passed over. Standard library only.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

DEFAULT_ENGINE = "llama_cpp"
BUILT_IN_MODEL = "smollm2"


def main() -> None:
    """Print one line for each engine and kind of model."""
    environment = {name: value for name, value in os.environ.items() if value}
    values = dotenv(Path(".env")) | environment | command_line(sys.argv[1:])
    for engine, model in sorted(wanted(values, toml(Path("jarvis.toml")))):
        print(engine, model)


def wanted(values: Mapping[str, str], file: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Pairs of an engine's name and the kind of its model."""
    engine = values.get("JARVIS_INFERENCE_ENGINE") or DEFAULT_ENGINE
    source = values.get("JARVIS_MODEL_NAME")
    models = file.get("models")
    tables = models.values() if isinstance(models, dict) else ()
    sections = [table for table in tables if isinstance(table, dict)]
    # A model with its own ``python`` finds its engine in that environment.
    chosen = [
        (str(section.get("engine") or engine), str(section["source"]))
        for section in sections
        if "source" in section and "python" not in section
    ]
    if source or not sections:
        chosen.append((engine, source or ""))
    return {(name, kind(name, weights)) for name, weights in chosen}


def kind(engine: str, source: str) -> str:
    """What an engine is to load: ``named``, ``built-in`` or ``none``."""
    if engine == DEFAULT_ENGINE and source in ("", BUILT_IN_MODEL):
        return "built-in"
    return "named" if source else "none"


def command_line(arguments: Sequence[str]) -> dict[str, str]:
    """What ``--engine``, ``--model`` and ``--set NAME=VALUE`` say."""
    variables = {"--engine": "JARVIS_INFERENCE_ENGINE", "--model": "JARVIS_MODEL_NAME"}
    values: dict[str, str] = {}
    for argument, following in pairwise([*arguments, ""]):
        option, equals, text = argument.partition("=")
        text = text if equals else following
        if option in variables:
            values[variables[option]] = text
        elif option == "--set":
            name, _, value = text.partition("=")
            values[name.strip()] = value.strip()
    return values


def dotenv(path: Path) -> dict[str, str]:
    """Values of a ``.env`` file without quotes and comments; the last of a name wins."""
    values: dict[str, str] = {}
    if not path.is_file():
        return values
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if match := re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)", line):
            name, text = match.groups()
            quoted = re.match(r"""\s*(['"])(.*?)\1""", text)
            values[name] = quoted[2] if quoted else re.sub(r"\s+#.*", "", text).strip()
    return values


def toml(path: Path) -> dict[str, Any]:
    """What ``jarvis.toml`` says; nothing where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


if __name__ == "__main__":
    main()
