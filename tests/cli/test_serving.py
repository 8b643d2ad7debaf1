"""``jarvis serve`` as its user sees it: what it prints, the line to try, and the end."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest


class Serving:
    """A running ``jarvis serve`` and what it has printed on standard output."""

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._invited = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jarvis_core", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if line.startswith("Ctrl-C"):
                    self._invited.set()

    def curl(self) -> list[str]:
        """The words of the line to try, once it is printed."""
        assert self._invited.wait(30), "\n".join(self.lines + self.errors)
        return shlex.split(next(line for line in self.lines if line.startswith("  curl ")))

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        for reader in self._readers:
            reader.join()
        return code

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()


@pytest.fixture
def serve() -> Iterator[type[Serving]]:
    """Starts servers, and ends them after the test."""
    started = []

    def start(*arguments: str) -> Serving:
        started.append(Serving("--engine", "fake", "--port", "0", *arguments))
        return started[-1]

    yield start
    for serving in started:
        serving.close()


def test_the_printed_line_answers_and_ctrl_c_ends_without_a_word(serve):
    serving = serve("--model", "org/parrot")
    _, url, _, body = serving.curl()
    # As curl sends it: no JSON content type.
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = httpx.post(url, content=body, headers=form, timeout=30)
    assert response.status_code == 200
    assert json.loads(body)["model"] == "parrot"
    assert "plants make food" in response.json()["choices"][0]["message"]["content"]

    assert serving.interrupt() in (0, 130)
    assert "loading parrot with fake (org/parrot) ..." in serving.lines
    assert not any("Traceback" in line for line in serving.lines + serving.errors)


def test_the_printed_line_has_the_place_of_the_key(serve, directory):
    (directory / ".env").write_text("JARVIS_API_KEY=canary\n")
    serving = serve("--model", "org/parrot")
    _, url, _, header, _, body = serving.curl()
    name, _, value = header.replace("YOUR_API_KEY", "canary").partition(": ")
    assert httpx.post(url, content=body, timeout=30).status_code == 401
    assert httpx.post(url, content=body, headers={name: value}, timeout=30).status_code == 200
    serving.interrupt()
    assert not any("canary" in line for line in serving.lines + serving.errors)
