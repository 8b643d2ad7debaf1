"""The command ``llm``, told of the server in its file of further OpenAI models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = """
- model_id: local
  model_name: tiny
  api_base: {base_url}
  api_key_name: local
  supports_schema: true
  supports_tools: true
"""


@pytest.fixture
def home(tmp_path: Path, base_url: str, key: str) -> Path:
    """A folder of settings of llm."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(base_url=base_url))
    (tmp_path / "keys.json").write_text(json.dumps({"local": key}))
    return tmp_path


def options(max_tokens: int) -> tuple[str, ...]:
    """Options of a prompt whose answer is the same each time."""
    return ("-o", "max_tokens", str(max_tokens), "-o", "temperature", "0")


def ask(home: Path, *arguments: str) -> str:
    """What llm prints."""
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        # The weights of the server's model come in a plugin of llm.
        env=os.environ | {"LLM_USER_PATH": str(home), "LLM_LOAD_PLUGINS": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_prompt_is_answered_streamed_and_whole(home: Path) -> None:
    arguments = ("-m", "local", *options(8), "Hello")
    streamed = ask(home, *arguments)
    assert streamed
    assert ask(home, "--no-stream", *arguments) == streamed


def test_a_conversation_goes_on(home: Path) -> None:
    ask(home, "-m", "local", *options(4), "Hello")
    assert ask(home, "-c", *options(4), "Go on")
    logged = json.loads(ask(home, "logs", "--json"))
    assert [entry["prompt"] for entry in logged] == ["Hello", "Go on"]
    assert len({entry["conversation_id"] for entry in logged}) == 1


def test_a_schema_is_kept(home: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = ask(home, "-m", "local", *options(60), "--schema", json.dumps(schema), "A city?")
    assert json.loads(answer)["city"] in ("Rome", "Oslo")


def test_tools_are_taken(home: Path) -> None:
    functions = "def weather(city: str) -> str:\n    'The weather.'\n    return 'sunny'\n"
    assert ask(home, "-m", "local", *options(8), "--functions", functions, "The weather?")
