"""Golden cases, which the tests share.

They were made with the templates of the publishers. ``jarvis_core.testing`` tells how they are
judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).with_name("golden")


def _read(kind: str, name: str) -> list[dict[str, Any]]:
    """The cases of a file, each with what the file says of all of them."""
    file = json.loads((GOLDEN / kind / f"{name}.json").read_text(encoding="utf-8"))
    head = {key: value for key, value in file.items() if key not in ("cases", "notes")}
    return [head | case for case in file["cases"]]


@pytest.fixture(scope="session")
def render_cases() -> Callable[[str], list[dict[str, Any]]]:
    """The golden prompts of a variant."""
    return lambda name: _read("render", name)


@pytest.fixture(scope="session")
def parse_cases() -> Callable[[str], list[dict[str, Any]]]:
    """The golden answers of a family."""
    return lambda name: _read("parse", name)
