"""Another interpreter is asked once what it can load, and refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jarvis_core.errors import ConfigError, PluginError
from jarvis_core.host.environment import check_environment
from jarvis_core.host.protocol import PROTOCOL

pytestmark = pytest.mark.anyio


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_describe_prints_engines_settings_formats_and_protocol() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "jarvis_core.host", "--describe"], capture_output=True, check=True
    ).stdout
    described = json.loads(out)
    assert described["protocol"] == PROTOCOL
    assert "load_delay" in described["engines"]["fake"]["settings"]
    assert "fake" in described["chat_formats"]


async def test_an_environment_with_the_engine_passes() -> None:
    await check_environment(sys.executable, "fake")


async def test_an_engine_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(PluginError, match="'nope' is not installed in the environment .*fake"):
        await check_environment(sys.executable, "nope")


async def test_another_protocol_is_refused_by_name(tmp_path: Path) -> None:
    python = script(tmp_path / "python", """echo '{"protocol": 0, "engines": {}}'""")
    with pytest.raises(ConfigError, match=f"speaks protocol 0, this server speaks {PROTOCOL}"):
        await check_environment(python, "fake")


async def test_an_interpreter_without_jarvis_or_none_at_all_is_refused(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo No module named jarvis_core >&2; exit 1")
    with pytest.raises(ConfigError, match="no usable jarvis-core: No module named jarvis_core"):
        await check_environment(python, "fake")
    with pytest.raises(ConfigError, match="cannot start /no/python"):
        await check_environment("/no/python", "fake")
