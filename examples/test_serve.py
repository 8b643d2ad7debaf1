"""A third party's plugin, installed from wheels into a clean environment, serves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.timeout(600)  # the first test installs the core with all it needs


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment that holds the wheels of core and plugin and what they require."""
    folder = tmp_path_factory.mktemp("clean")
    wheels = folder / "wheels"
    projects = [ROOT, ROOT / "examples/jarvis-echo"]
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, *projects)
    run(sys.executable, "-m", "venv", folder / "venv")
    programs = folder / "venv/bin"
    run(programs / "python", "-m", "pip", "install", *sorted(wheels.glob("*.whl")))
    return programs


@pytest.fixture(scope="session")
def address(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that serves the model ``parrot``."""
    command = [
        str(clean / "jarvis"),
        "serve",
        "--engine",
        "echo",
        "--model",
        "parrot",
        "--port",
        "0",
    ]
    folder = tmp_path_factory.mktemp("server")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        printed = ""
        for line in server.stdout:
            printed += line
            if ready := re.match(r"Jarvis is ready at (\S+)", line):
                yield ready[1]
                break
        server.send_signal(signal.SIGINT)
        printed += server.stdout.read()
        assert server.wait(timeout=60) == 0, printed


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_installing_the_plugin_registers_its_engine_and_format(clean: Path) -> None:
    plugins = run(clean / "jarvis", "plugins")

    assert "jarvis-echo" in plugins
    assert "transcript" in plugins
    assert "llama" not in plugins


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="parrot", messages=[{"role": "user", "content": "Hello, Jarvis!"}]
    )

    assert answer.choices[0].message.content == "Hello, Jarvis!"
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_answer(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="parrot", messages=[{"role": "user", "content": "Hello, Jarvis!"}], stream=True
        )
    )

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello, Jarvis!"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_what_the_engine_cannot_honour_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="parrot", messages=[{"role": "user", "content": "Hello"}], temperature=0.5
        )

    assert refused.value.param == "temperature"
    assert "echo" in refused.value.message
