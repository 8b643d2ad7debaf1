"""Settings of models: one from variables, any number from ``jarvis.toml``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from jarvis_core.settings.fields import setting
from jarvis_core.settings.sampling import SamplingSettings

BUILT_IN_MODEL = "smollm2"
BUILT_IN_ENGINE = "llama_cpp"


@frozen(kw_only=True)
class ModelConfig:
    """One configured model; the section ``[models.<name>]`` of ``jarvis.toml``.

    Attributes:
        settings: Values for the settings class of its engine, by name; only those that somebody
            set. Plain values: they travel to the engine host.
    """

    name: str = setting(help="Name that clients ask for")
    source: str = setting(
        help="Path or hub id of its weights; a relative path starts at jarvis.toml"
    )
    engine: str = setting(default=BUILT_IN_ENGINE, help="Engine that runs it")
    chat_format: str = setting(default="auto", help="Chat format; auto asks the plugins")
    chat_template: str | None = setting(
        default=None,
        help="File with a Jinja template that takes the place of the model's own; a relative path "
        "starts at jarvis.toml",
    )
    aliases: tuple[str, ...] = setting(default=(), help="Other names that clients may ask for")
    preload: bool = setting(default=True, help="Load at start, not on the first request")
    python: str | None = setting(
        default=None, help="Python whose environment has the engine, if not the server's own"
    )
    context_length: int | None = setting(
        default=None, ge=1, help="Tokens of prompt and completion; unset leaves it to the engine"
    )
    adapters: Mapping[str, str] = setting(
        factory=dict,
        help="LoRA adapters: the name that clients ask for, and the path of its file or folder",
    )
    sampling: SamplingSettings = setting(
        factory=SamplingSettings, help="What counts where a request does not say"
    )
    settings: Mapping[str, Any] = setting(factory=dict, help="Settings of its engine")


@frozen(kw_only=True)
class SingleModel:
    """The one model that variables describe, ``JARVIS_<FIELD>``."""

    inference_engine: str = setting(
        default=BUILT_IN_ENGINE, help="Engine of every model that names none"
    )
    model_name: str | None = setting(
        default=None,
        help="Path to a GGUF file, a directory, a hub id, or repo:QUANT for a GGUF of a hub "
        f"repository; unset serves {BUILT_IN_MODEL}",
    )
    model_id: str | None = setting(
        default=None, help="Name that clients ask for; unset takes the end of the model's name"
    )
    model_chat_format: str = setting(default="auto", help="Chat format; auto asks the plugins")
    model_chat_template: str | None = setting(
        default=None, help="File with a Jinja template that takes the place of the model's own"
    )
    model_context_window: int | None = setting(
        default=None, ge=1, help="Tokens of prompt and completion; unset leaves it to the engine"
    )


def id_of_source(source: str) -> str:
    """The name of a model that was given none: a file's stem, else the last part of the source."""
    if source.endswith(".gguf"):
        return Path(source).stem
    if _looks_like_path(source):
        return Path(expanded(source)).resolve().name
    return source.rpartition("/")[2].partition(":")[0]


def expanded(path: str) -> str:
    """A path with ``~`` replaced, which no shell did in ``.env`` and ``jarvis.toml``."""
    return os.path.expanduser(path)


def absolute_path(path: str, directory: Path) -> str:
    """A relative path of ``jarvis.toml``, which lies in ``directory``, made absolute."""
    return str(directory / expanded(path))


def absolute_source(source: str, directory: Path) -> str:
    """A source of ``jarvis.toml``: a path made absolute; a hub id stays as it is."""
    if source == BUILT_IN_MODEL:
        return source
    path = absolute_path(source, directory)
    return path if _looks_like_path(source) or os.path.exists(path) else source


def _looks_like_path(source: str) -> bool:
    return source.startswith(("/", ".", "~")) or source.endswith((".gguf", "/"))
