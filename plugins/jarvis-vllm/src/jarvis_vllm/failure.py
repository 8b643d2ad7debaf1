"""Why vLLM's engine process failed to start, told by that process itself.

vLLM's own exception in the engine host says that the reason is "above", in a log. So the first
exception that one of its processes logs is written to a file that the host reads.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FAILURE_FILE = "JARVIS_VLLM_FAILURE_FILE"
"""Environment variable with the path of that file."""

_GENERIC = ("initialization failed", "See root cause above", "See stack trace")


class FirstFailure:
    """The file, while a model is loaded.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def reason(self) -> str | None:
        """The first exception that was logged, as ``ValueError: what was wrong``."""
        try:
            return self._path.read_text(errors="replace").strip() or None
        except OSError:
            return None


@contextmanager
def first_failure() -> Iterator[FirstFailure]:
    """Have the processes that start meanwhile say why they fail."""
    with tempfile.TemporaryDirectory(prefix="jarvis-vllm-") as folder:
        path = Path(folder) / "failure"
        os.environ[FAILURE_FILE] = str(path)
        try:
            yield FirstFailure(path)
        finally:
            del os.environ[FAILURE_FILE]


def tell_failures() -> None:
    """In a process that vLLM has started for an engine host: write down the first exception."""
    if path := os.environ.get(FAILURE_FILE):
        logging.getLogger("vllm").addHandler(_Teller(Path(path)))


class _Teller(logging.Handler):
    """Writes the exception of a record to the file, if it is the first."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or any(text in str(error) for text in _GENERIC):
            return
        try:
            with self._path.open("x") as file:
                file.write(f"{type(error).__name__}: {error}")
        except OSError:  # another process was first, or loading is over
            return


def one_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    text = str(error)
    if found := re.search(r"Value error, (.*?)(?: \[type=|\n|$)", text):  # pydantic's own frame
        text = found[1]
    return text.strip().partition("\n")[0] or type(error).__name__
