"""Prints the closing summary of ./test.sh: summary.py RESULT_JSON JUNIT_FOLDER TOX_STATUS.

A line for each environment, then ``N passed, N failed`` alone on the last line. An environment
without a test report, such as the linter's, counts as one. Exits with 1 on any failure.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def main(result: Path, reports: Path, status: int) -> int:
    """Print the summary and return the exit code."""
    total: Counter[str] = Counter()
    print("\nSummary")
    for name, outcome in ran(result):
        if outcome["skipped"]:
            print(f"  {name:<14} MISSING  no such interpreter on this machine: not tested")
            continue
        counts = count(reports / f"{name}.xml", bool(outcome["success"]))
        total += counts
        word = "FAILED" if counts["failed"] else "ok"
        print(f"  {name:<14} {word:<7} {outcome['duration']:5.0f} s  {in_words(counts)}")
    if status and not total["failed"]:  # tox itself failed, or ran nothing
        total["failed"] = 1
    print(f"\n{in_words(total)}")
    return 1 if total["failed"] else 0


def ran(result: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and outcome of each environment that tox ran or passed over."""
    environments = json.loads(result.read_text())["testenvs"] if result.exists() else {}
    for name, entry in environments.items():
        if "result" in entry:
            yield name, entry["result"]


def count(report: Path, success: bool) -> Counter[str]:
    """Tests passed, failed and skipped in one environment."""
    counts: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            counts["failed"] += bad
            counts["skipped"] += skipped
            counts["passed"] += max(int(suite.get("tests", 0)) - bad - skipped, 0)
    elif success:
        counts["passed"] = 1
    if not success and not counts["failed"]:  # an installation, a type check, a crash
        counts["failed"] = 1
    return counts


def in_words(counts: Counter[str]) -> str:
    """Counts as CI reads them."""
    words = f"{counts['passed']} passed, {counts['failed']} failed"
    return f"{words}, {counts['skipped']} skipped" if counts["skipped"] else words


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
