"""Runs ``jarvis`` as its user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jarvis_core.cli.program import program

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no setting from outside but the fake engine's plugin."""
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name == "DEBUG" or (name.startswith("JARVIS_") and name != "JARVIS_PLUGINS"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def jarvis() -> Run:
    """Runs a command line inside this process."""

    def run(*arguments: str, **environ: str) -> Result:
        env = {"COLUMNS": None, **environ}  # whoever runs the tests may have set it
        return CliRunner().invoke(program, arguments, env=env, prog_name="jarvis")

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command line in a process of its own."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jarvis_core", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environ},
        )

    return run
