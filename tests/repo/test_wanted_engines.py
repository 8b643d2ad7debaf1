"""scripts/wanted_engines.py reads the settings as the server will."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv.parser import parse_stream

SCRIPT = Path(__file__).parents[2] / "scripts/wanted_engines.py"


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    return Ask(tmp_path)


class Ask:
    """Runs the script in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def __call__(self, *options: str, **environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, SCRIPT, *options],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()


def test_nothing_said_is_the_built_in_model(ask: Ask) -> None:
    assert ask() == ["llama_cpp built-in"]


def test_the_built_in_model_may_be_named(ask: Ask) -> None:
    assert ask(JARVIS_MODEL_NAME="smollm2") == ["llama_cpp built-in"]


def test_environment_beats_dotenv(ask: Ask) -> None:
    ask.write(".env", "JARVIS_INFERENCE_ENGINE=vllm\nJARVIS_MODEL_NAME=org/model\n")

    assert ask(JARVIS_INFERENCE_ENGINE="llama_cpp") == ["llama_cpp named"]


def test_command_line_beats_environment(ask: Ask) -> None:
    assert ask("--engine=vllm", JARVIS_INFERENCE_ENGINE="llama_cpp") == ["vllm none"]
    assert ask("--engine", "vllm", "--model", "org/model") == ["vllm named"]
    assert ask("--port", "1", "--set", "JARVIS_INFERENCE_ENGINE=vllm") == ["vllm none"]
    assert ask("--set=JARVIS_INFERENCE_ENGINE=vllm") == ["vllm none"]


def test_an_empty_variable_counts_as_not_set(ask: Ask) -> None:
    ask.write(".env", "JARVIS_INFERENCE_ENGINE=vllm\n")

    assert ask(JARVIS_INFERENCE_ENGINE="") == ["vllm none"]


@pytest.mark.parametrize(
    "line",
    [
        "JARVIS_INFERENCE_ENGINE=vllm",
        "JARVIS_INFERENCE_ENGINE = vllm   # production",
        'JARVIS_INFERENCE_ENGINE="vllm" # production',
        "JARVIS_INFERENCE_ENGINE='vllm'",
        "export JARVIS_INFERENCE_ENGINE=vllm",
        "  JARVIS_INFERENCE_ENGINE=vllm\t# tab",
        "\ufeffJARVIS_INFERENCE_ENGINE=vllm",
        "JARVIS_INFERENCE_ENGINE=llama_cpp\nJARVIS_INFERENCE_ENGINE=vllm",
        "JARVIS_INFERENCE_ENGINE=vllm\nJARVIS_MODEL_NAME=   # later",
        "JARVIS_INFERENCE_ENGINE=vllm\r\nJARVIS_MODEL_NAME=\r",
        "# JARVIS_INFERENCE_ENGINE=llama_cpp\nJARVIS_INFERENCE_ENGINE=vllm",
    ],
)
def test_dotenv_files_in_the_wild_are_read_as_the_server_reads_them(ask: Ask, line: str) -> None:
    ask.write(".env", line + "\n")
    bindings = parse_stream(io.StringIO(line.removeprefix("\ufeff")))
    values = {binding.key: (binding.value or "").strip() for binding in bindings}

    assert values["JARVIS_INFERENCE_ENGINE"] == "vllm"
    assert not values.get("JARVIS_MODEL_NAME")
    assert ask() == ["vllm none"]


def test_every_engine_of_jarvis_toml_is_wanted(ask: Ask) -> None:
    ask.write(
        "jarvis.toml",
        """
        [models.small]
        source = "smollm2"
        [models.large]
        source = "org/large"
        engine = "vllm"
        [models.elsewhere]
        source = "org/other"
        engine = "other"
        python = "/opt/other/bin/python"
        """,
    )

    assert ask() == ["llama_cpp built-in", "vllm named"]


def test_a_named_model_is_wanted_beside_those_of_jarvis_toml(ask: Ask) -> None:
    ask.write("jarvis.toml", '[models.large]\nsource = "org/large"\nengine = "vllm"\n')

    assert ask(JARVIS_MODEL_NAME="/m.gguf") == ["llama_cpp named", "vllm named"]


@pytest.mark.parametrize("text", ["[models", "models = 1", "[models]\nx = 1", "\x00"])
def test_a_broken_jarvis_toml_is_left_to_the_server_to_report(ask: Ask, text: str) -> None:
    ask.write("jarvis.toml", text)

    assert ask() == ["llama_cpp built-in"]
