"""llama.cpp's own log."""

from __future__ import annotations

import logging

import pytest

from jarvis_llamacpp.log import LlamaLog

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5


def log(level: str, *lines: tuple[int, bytes]) -> LlamaLog:
    found = LlamaLog()
    found.install(level)
    for number, line in lines:
        found._receive(number, line, None)
    return found


LINES = (
    (DEBUG, b"details\n"),
    (INFO, b"loading\n"),
    (WARN, b"odd\n"),
    (ERROR, b"bad\n"),
)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("none", []),
        ("error", ["bad"]),
        ("warning", ["odd", "bad"]),
        ("info", ["loading", "odd", "bad"]),
        ("debug", ["details", "loading", "odd", "bad"]),
    ],
)
def test_lines_from_the_level_on_are_shown(
    level: str, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    log(level, *LINES)

    assert caplog.messages == shown


def test_levels_are_those_of_python(caplog: pytest.LogCaptureFixture) -> None:
    log("debug", *LINES)

    assert [record.levelno for record in caplog.records] == [
        logging.DEBUG,
        logging.INFO,
        logging.WARNING,
        logging.ERROR,
    ]


def test_a_continued_line_has_the_level_before(caplog: pytest.LogCaptureFixture) -> None:
    log("warning", (INFO, b"loading"), (CONTINUED, b" more\n"), (WARN, b"a"), (CONTINUED, b"b\n"))

    assert caplog.messages == ["a", "b"]


def test_progress_bars_and_misleading_warnings_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log(
        "debug",
        (INFO, b"....."),
        (INFO, b"\n"),
        (WARN, b"n_ctx -- possible training context overflow"),
        (ERROR, b"process_ubatch: failed to compute graph, compute status: 1\n"),
    )

    assert caplog.messages == []


def test_a_step_that_failed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lines = (
        b"graph_compute: ggml_backend_sched_graph_compute_async failed with error -1",
        b"process_ubatch: failed to compute graph, compute status: -1",
        b"llama_decode: failed to decode, ret = -3",
    )
    log("error", *((ERROR, line + b"\n") for line in lines))

    assert caplog.messages == [line.decode() for line in lines]


def test_the_reason_is_what_went_wrong_without_function_names() -> None:
    found = log(
        "none",
        (WARN, b"odd\n"),
        (ERROR, b"llama_model_load: error loading model: unknown model architecture: 'x'\n"),
        (ERROR, b"llama_model_load_from_file_impl: failed to load model\n"),
    )

    assert found.reason() == "unknown model architecture: 'x'"
    found.install("none")
    assert found.reason() == "no reason given"
