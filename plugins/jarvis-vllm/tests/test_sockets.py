"""The folder of vLLM's sockets: gone with its engine, or with the next one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jarvis_vllm.sockets import BASE_PATH, SocketFolder

HOST = """
import sys, time
from jarvis_vllm.sockets import SOCKETS
SOCKETS.make(sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE_PATH, "")
    monkeypatch.delenv(BASE_PATH)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory whose path is shorter than pytest's: a socket's has 107 bytes at most."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def host(base: Path) -> Iterator[subprocess.Popen[str]]:
    """Another engine host that lives."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST, base], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def leave_socket(base: Path) -> Path:
    """What vLLM does: it makes a socket, by default in ``base``, and leaves it."""
    path = Path(os.environ.get(BASE_PATH, base)) / str(uuid4())
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    return path


def test_sockets_are_removed_with_their_folder(base: Path) -> None:
    folder = SocketFolder()
    folder.make(str(base))
    left = leave_socket(base)
    assert left.is_socket()
    assert left.parent.stat().st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert list(base.iterdir()) == []


def test_the_next_engine_of_a_process_finds_the_same_folder(base: Path) -> None:
    folder = SocketFolder()
    folder.make(str(base))
    first = leave_socket(base)
    folder.remove()
    folder.make(str(base))
    assert leave_socket(base).parent == first.parent
    assert not first.exists()
    folder.remove()
    assert list(base.iterdir()) == []


def test_the_folder_of_a_process_that_started_this_one_is_not_used(base: Path) -> None:
    parent, child = SocketFolder(), SocketFolder()
    parent.make(str(base))
    parent.remove()
    child.make()
    assert leave_socket(base).parent.parent == base
    child.remove()
    assert list(base.iterdir()) == []


def test_two_hosts_have_folders_of_their_own(base: Path, host: subprocess.Popen[str]) -> None:
    (others,) = base.iterdir()
    folder = SocketFolder()
    folder.make(str(base))
    assert len(list(base.iterdir())) == 2
    folder.remove()
    assert list(base.iterdir()) == [others]


def test_what_a_killed_host_left_is_removed_by_the_next(
    base: Path, host: subprocess.Popen[str]
) -> None:
    (others,) = base.iterdir()
    host.send_signal(signal.SIGKILL)
    host.wait()
    assert others.exists()
    folder = SocketFolder()
    folder.make(str(base))
    assert not others.exists()
    folder.remove()


def test_what_only_has_the_name_is_left_alone(base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (base / "jarvis-ipc-file").write_text("")
    (base / "jarvis-ipc-link").symlink_to(elsewhere)
    folder = SocketFolder()
    folder.make(str(base))
    folder.remove()
    assert {path.name for path in base.iterdir()} == {"jarvis-ipc-file", "jarvis-ipc-link"}
    assert elsewhere.is_dir()


@pytest.mark.parametrize("length", [50, 51, 70])
def test_a_socket_never_has_too_long_a_path(base: Path, length: int) -> None:
    deep = base / ("x" * (length - len(str(base)) - 1))
    deep.mkdir()
    folder = SocketFolder()
    folder.make(str(deep))
    own = BASE_PATH in os.environ
    left = leave_socket(deep)
    folder.remove()
    assert (own, left.exists()) == ((True, False) if length == 50 else (False, True))
