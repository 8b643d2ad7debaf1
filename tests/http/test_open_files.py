"""The limit of open files, in processes of their own: no process can raise a hard limit again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jarvis_core.http.open_files import BESIDE

PROGRAM = """
import resource, sys
from jarvis_core.http.open_files import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_files(300)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "then", "warned"),
    [
        (64, 1000, 300 + BESIDE, False),
        (900, 1000, 900, False),
        (64, 400, 400, True),
        (400, 400, 400, True),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(
    soft: int, hard: int, then: int, warned: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *log, limit = done.stdout.splitlines()

    assert int(limit) == then
    assert ("JARVIS_MAX_CONNECTIONS" in "".join(log)) == warned
