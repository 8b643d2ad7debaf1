"""scripts/summary.py: what ./test.sh says at the end, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

SCRIPT = Path(__file__).parents[2] / "scripts/summary.py"
REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


@frozen
class Run:
    """A run of tox, as it leaves its results."""

    folder: Path
    outcomes: dict[str, Any] = field(factory=dict)

    def add(self, name: str, *, success: bool, report: tuple[int, ...] = ()) -> None:
        outcome = {"success": success, "duration": 1.0, "skipped": False}
        self.outcomes[name] = {"result": outcome}
        if report:
            (self.folder / f"{name}.xml").write_text(REPORT.format(*report))

    def add_missing(self, name: str) -> None:
        self.outcomes[name] = {"result": {"success": True, "duration": 0.1, "skipped": True}}

    def summary(self, status: int = 0) -> tuple[int, list[str]]:
        result = self.folder / "result.json"
        result.write_text(json.dumps({"testenvs": self.outcomes | {".pkg": {}}}))
        done = subprocess.run(
            [sys.executable, SCRIPT, result, self.folder, str(status)],
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_last_line_has_the_sums_alone(run: Run) -> None:
    run.add("lint", success=True)
    run.add("py311", success=True, report=(10, 0, 0, 0))
    run.add("formats", success=True, report=(5, 0, 0, 0))

    code, lines = run.summary()

    assert code == 0
    assert lines[-1] == "16 passed, 0 failed"


def test_failures_and_errors_of_tests_fail(run: Run) -> None:
    run.add("py311", success=False, report=(10, 2, 1, 1))

    code, lines = run.summary(status=1)

    assert code == 1
    assert lines[-1] == "6 passed, 3 failed, 1 skipped"
    assert "FAILED" in lines[-3]


def test_an_environment_that_fails_without_a_failed_test_fails(run: Run) -> None:
    run.add("types", success=False)
    run.add("llamacpp", success=False, report=(4, 0, 0, 0))

    code, lines = run.summary(status=1)

    assert code == 1
    assert lines[-1] == "4 passed, 2 failed"


def test_a_missing_interpreter_is_reported_and_does_not_fail(run: Run) -> None:
    run.add("py311", success=True, report=(10, 0, 0, 0))
    run.add_missing("py313")

    code, lines = run.summary()

    assert code == 0
    assert any("py313" in line and "MISSING" in line for line in lines)


def test_tox_that_fails_by_itself_fails(run: Run) -> None:
    code, lines = run.summary(status=2)

    assert code == 1
    assert lines[-1] == "0 passed, 1 failed"
