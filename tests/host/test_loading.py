"""What a host loads, in this process: engines that are none are told what they lack."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jarvis_core.errors import ConfigError
from jarvis_core.host.loading import load_model
from jarvis_core.host.protocol import HostPlan

pytestmark = pytest.mark.anyio

PLUGIN = """
from attrs import evolve, frozen
from jarvis_core import Capabilities, EngineType, hookimpl
from jarvis_core.testing import FakeEngine, FakeSettings

class Altered(FakeEngine):
    @property
    def info(self):
        return evolve(super().info, engine="altered", {info})

class Generates:
    def __init__(self, spec):
        self.info = FakeEngine(spec).info
        self.generate = self.tokenize = self.detokenize = self.stats = self.aclose = print

class Half:
    def generate(self, request): ...

{load}

@hookimpl
def jarvis_register_engines():
    engine = EngineType(name="altered", env_prefix="ALTERED_", load=load, settings=FakeSettings)
    return [engine]
"""
LOAD = "async def load(spec, settings): return Altered(spec)"


@pytest.fixture
def loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def load(load: str = LOAD, info: str = ""):
        (tmp_path / "plugin_altered.py").write_text(PLUGIN.format(load=load, info=info))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plugin_altered", raising=False)
        monkeypatch.setenv("JARVIS_PLUGINS", "plugin_altered, jarvis_core.testing.fake")
        plan = HostPlan(name="m", source="s", engine="altered", chat_format="fake")
        return await load_model(plan, lambda done, total: None)

    return load


async def test_a_model_is_loaded_with_its_format_and_the_reason_for_it(loading) -> None:
    loaded, found = await loading()
    assert (loaded.info.engine, loaded.info.source) == ("altered", "s")
    assert loaded.chat_format.name == found.name == "fake"
    assert found.reason == "chat_format is set to it"


@pytest.mark.parametrize(
    ("load", "what"),
    [
        ("def load(spec, settings): return Altered(spec)", "has to be a coroutine function"),
        ("async def load(spec, settings): Altered(spec)", "returned None; is a return missing?"),
        (
            "async def load(spec, settings): return Half()",
            "Half has no method tokenize, detokenize, stats, aclose",
        ),
        (
            "async def load(spec, settings): return Generates(spec)",
            "name the task embed, and it is no Embedder",
        ),
        (
            "async def load(spec, settings):\n e = Generates(spec)\n e.info = {}\n return e",
            "its info is dict, not a ModelInfo",
        ),
    ],
)
async def test_an_engine_that_is_none_is_told_what_it_lacks(loading, load: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"load of engine 'altered' .*{what}"):
        await loading(load)


@pytest.mark.parametrize(
    ("info", "field"),
    [("context_length=None", "context_length"), ("vocab_size='many'", "vocab_size")],
)
async def test_an_info_that_cannot_be_sent_names_the_field(loading, info: str, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"its info is wrong: .* @ info\.{field}"):
        await loading(info=info)
