"""Projects that ``jarvis new-plugin`` makes work at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]

FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "src/jarvis_my_words/__init__.py",
    "src/jarvis_my_words/py.typed",
}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("format", {"src/jarvis_my_words/chat_format.py", "tests/test_chat_format.py"}),
        ("engine", {"src/jarvis_my_words/engine.py", "tests/test_engine.py"}),
    ],
)
def test_its_tests_pass_at_once(jarvis: Run, directory: Path, kind: str, own: set[str]) -> None:
    result = jarvis("new-plugin", kind, "my-words")
    assert result.exit_code == 0, result.output
    project = directory / "jarvis-my-words"
    found = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    assert found == FILES | own
    assert not [
        path for path in found if re.search("@[A-Z]+@", (project / path).read_text() + path)
    ]

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout


@pytest.mark.parametrize("kind", ["format", "engine"])
def test_its_own_imports_come_last(jarvis: Run, directory: Path, kind: str) -> None:
    jarvis("new-plugin", kind, "shout", "--directory", "here")
    for path in (directory / "here").rglob("*.py"):
        lines = path.read_text().splitlines()
        names = [line.split()[1].split(".")[0] for line in lines if line.startswith("from ")]
        own = [name == "jarvis_shout" for name in names]
        assert own == sorted(own), path


def test_it_registers_itself_by_an_entry_point(jarvis: Run, directory: Path) -> None:
    jarvis("new-plugin", "format", "shout", "--directory", "here")
    project = tomllib.loads((directory / "here" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "jarvis-shout"
    assert project["entry-points"] == {"jarvis": {"shout": "jarvis_shout"}}
    assert project["dependencies"][0].startswith("jarvis-core~=")
    assert "jarvis-core[testing]" in project["optional-dependencies"]["test"]  # any pip knows those


@pytest.mark.parametrize("name", ["", "Shout", "9lives", "a b", "../up", "a--b", "-a", "ü"])
def test_a_name_that_cannot_be_a_package_is_refused(
    jarvis: Run, directory: Path, name: str
) -> None:
    result = jarvis("new-plugin", "engine", "--", name)
    assert result.exit_code == 2
    assert "cannot be the name of a plugin" in result.output
    assert list(directory.iterdir()) == []


def test_what_is_there_is_not_overwritten(jarvis: Run, directory: Path) -> None:
    (directory / "jarvis-shout").mkdir()
    (directory / "jarvis-shout" / "notes").write_text("mine")
    result = jarvis("new-plugin", "format", "shout")
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in (directory / "jarvis-shout").iterdir()] == ["notes"]
