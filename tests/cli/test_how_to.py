"""What the how-to pages of plugins show is what the new projects hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
HOW_TO = Path(__file__).parents[2] / "docs/how-to"
PAGES = [
    (HOW_TO / page).read_text(encoding="utf-8")
    for page in ("write-a-chat-format.md", "write-an-engine.md")
]

pytestmark = pytest.mark.parametrize("page", PAGES, ids=["format", "engine"])


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def project(jarvis: Run, directory: Path, page: str) -> Path:
    commands = [line.removeprefix("$ ") for line in blocks(page, "console")[0].splitlines()]
    assert commands[0].startswith("jarvis ")
    result = jarvis(*commands[0].split()[1:])
    assert result.exit_code == 0, result.output
    return directory / commands[1].removeprefix("cd ")


def test_its_code_is_that_of_the_new_project(project: Path, page: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in project.rglob("*.py")]
    shown = blocks(page, "python")  # those in "py" are what a format may have beside it
    missing = [block for block in shown if not any(block in source for source in sources)]
    assert len(shown) > 2
    assert missing == []


def test_its_files_are_there(project: Path, page: str) -> None:
    named = re.findall(r"`((?:src|tests)/\S+?\.py)`", page)
    assert len(named) > 1
    assert [path for path in named if not (project / path).is_file()] == []
