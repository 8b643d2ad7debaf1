"""In the processes that vLLM starts: they end with their host, and tell why they fail."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jarvis_vllm.failure import FAILURE_FILE, first_failure, tell_failures
from jarvis_vllm.orphans import HOST_PID
from jarvis_vllm.processes import prepare_host
from jarvis_vllm.sockets import BASE_PATH, SOCKETS

CHILD = "import time; from jarvis_vllm.processes import prepare_child; prepare_child(); "
HOST = f"""
import subprocess, sys, time
from jarvis_vllm.orphans import mark_host
mark_host()
child = subprocess.Popen([sys.executable, "-c", {CHILD + "print(1, flush=True); time.sleep(60)"!r}])
print(child.pid, flush=True)
time.sleep(60)
"""


def lives(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip() != "" and not done.stdout.startswith("Z")


def test_a_process_of_vllm_ends_with_its_host() -> None:
    """R-04: even when the host has no time to do anything about it."""
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    child = int(host.stdout.readline())
    host.stdout.readline()
    host.stdout.close()
    assert lives(child)
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    deadline = time.monotonic() + 20
    while lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_elsewhere_nothing_is_watched_and_no_log_set_up() -> None:
    environ = {k: v for k, v in os.environ.items() if k not in (HOST_PID, FAILURE_FILE)}
    code = CHILD + (
        "import logging, threading; print(threading.active_count(), logging.getLogger().handlers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )

    assert done.stdout.strip() == "1 []"


def test_a_process_of_vllm_tells_the_server_the_levels_of_its_log() -> None:
    code = CHILD + (
        "import logging, multiprocessing;"
        "multiprocessing.current_process().name = 'EngineCore';"
        "log = logging.getLogger('vllm.v1.engine');"
        "log.debug('hidden'); log.info('loading'); log.warning('slow'); log.error('lost')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {HOST_PID: str(os.getpid()), "VLLM_LOGGING_LEVEL": "INFO"},
    )

    assert done.stderr.splitlines() == [
        "<6>EngineCore: loading",
        "<4>EngineCore: slow",
        "<3>EngineCore: lost",
    ]


def test_the_first_exception_that_is_logged_is_the_reason() -> None:
    code = (
        "import logging; from jarvis_vllm.failure import tell_failures; tell_failures();"
        "log = logging.getLogger('vllm.v1.engine');"
        "log.error('no exception');"
        "log.error('x', exc_info=ValueError('no room: 3 GiB'));"
        "log.error('y', exc_info=RuntimeError('later'))"
    )
    with first_failure() as failure:
        assert failure.reason() is None
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert failure.reason() == "ValueError: no room: 3 GiB"
    assert failure.reason() is None
    assert FAILURE_FILE not in os.environ


def test_exceptions_that_only_point_to_others_are_no_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FAILURE_FILE, str(tmp_path / "failure"))
    log = logging.getLogger("vllm")
    before = log.handlers[:]
    tell_failures()
    try:
        log.error("x", exc_info=RuntimeError("Engine core initialization failed. See above."))
        assert not (tmp_path / "failure").exists()
    finally:
        log.handlers[:] = before


def test_what_vllm_reads_from_the_environment_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("VLLM_NO_USAGE_STATS", "VLLM_WORKER_MULTIPROC_METHOD", HOST_PID, BASE_PATH),
        *("VLLM_CONFIGURE_LOGGING", "VLLM_LOGGING_CONFIG_PATH", "VLLM_LOGGING_LEVEL"),
    ):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS")
    monkeypatch.setattr(logging.getLogger("vllm"), "level", logging.NOTSET)
    try:
        prepare_host("error")
    finally:
        SOCKETS.remove()

    assert os.environ["VLLM_LOGGING_LEVEL"] == "ERROR"
    assert os.environ["VLLM_CONFIGURE_LOGGING"] == "0"
    assert "VLLM_LOGGING_CONFIG_PATH" not in os.environ
    assert logging.getLogger("vllm").level == logging.ERROR
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ[HOST_PID] == str(os.getpid())
    assert Path(os.environ[BASE_PATH]).name.startswith("jarvis-ipc-")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS")
