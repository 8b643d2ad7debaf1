"""Engines as plugins register them, and a loader that needs only what a test is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen, validators

from jarvis_core import Capabilities, Engine, EngineType, ModelSpec, setting
from jarvis_core.plugins import PluginReport
from jarvis_core.settings import Settings, load_settings


@frozen(kw_only=True)
class LlamaSettings:
    n_batch: int = setting(default=512, ge=1, help="Tokens", env=("JARVIS_N_BATCH",))
    n_gpu_layers: int = setting(default=-1, help="Layers")
    log_level: str = setting(
        default="warn", choices=("info", "warn"), env=("LLAMA_LOG_LEVEL",), help="Level"
    )
    flash: bool = setting(default=False, help="Flash attention")


@frozen(kw_only=True)
class EchoSettings:
    voice: str = setting(default="calm", help="Voice")
    token: str = setting(default="", secret=True, help="Token of a service")
    pairs: int = field(default=2, validator=validators.in_([2, 4]))


async def never_loaded(model: ModelSpec, settings: Any) -> Engine:
    raise AssertionError("settings are read without loading a model")


ENGINES = {
    "llama_cpp": EngineType(
        name="llama_cpp",
        env_prefix="JARVIS_LLAMACPP_",
        load=never_loaded,
        settings=LlamaSettings,
        capabilities=Capabilities(parameters=frozenset({"temperature", "top_p", "top_k"})),
    ),
    "echo": EngineType(
        name="echo", env_prefix="JARVIS_ECHO_", load=never_loaded, settings=EchoSettings
    ),
}


@pytest.fixture
def engines() -> Mapping[str, EngineType]:
    """The engine types that ``load`` reads settings for."""
    return ENGINES


Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads settings from the given layers; files are written first."""

    def read(
        *,
        options: Mapping[str, str | None] | None = None,
        env: Mapping[str, str] | None = None,
        dotenv: str | bytes | None = None,
        toml: str | bytes | None = None,
        engines: Mapping[str, EngineType] = ENGINES,
        broken: tuple[PluginReport, ...] = (),
    ) -> Settings:
        for name, content in ((".env", dotenv), ("jarvis.toml", toml)):
            if content is not None:
                data = content.encode() if isinstance(content, str) else content
                (tmp_path / name).write_bytes(data)
        return load_settings(
            options=options or {},
            environ=env or {},
            directory=tmp_path,
            engines=engines,
            broken=broken,
        )

    return read
