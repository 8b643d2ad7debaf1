from __future__ import annotations

import logging

import pytest

from jarvis_core import LevelPrefix
from jarvis_core.log_lines import split_level


def record(level: int, message: str, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("vllm", level, __file__, 1, message, None, exc_info)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_a_level_survives_the_way_to_the_server(level: str) -> None:
    line = LevelPrefix().format(record(logging.getLevelNamesMapping()[level.upper()], "hello"))

    assert split_level(line) == (level, "hello")


def test_each_line_of_a_traceback_has_the_level() -> None:
    text = LevelPrefix("worker: %(message)s").format(
        record(logging.ERROR, "gone", ValueError("why\nso"))
    )
    lines = [split_level(line) for line in text.splitlines()]

    assert {level for level, _ in lines} == {"error"}
    assert [text for _, text in lines] == ["worker: gone", "ValueError: why", "so"]


def test_an_empty_message_is_a_line() -> None:
    assert LevelPrefix().format(record(logging.INFO, "")) == "<6>"


@pytest.mark.parametrize("line", ["ASSERT(x) failed", "", "<9>x", "<4", "< 4>"])
def test_what_has_no_level_is_a_warning(line: str) -> None:
    assert split_level(line) == ("warning", line)
