"""What a model's publisher recommends for sampling, as the model's files have it.

They are read as they are: vLLM reads ``generation_config.json`` with transformers, and leaves out
what that takes for its own default, such as a ``top_k`` of 50 before its version 5.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jarvis_vllm.source import Source

_log = logging.getLogger(__name__)

_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_GGUF_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""Source: gguf.constants.Keys.General, gguf 0.19."""


def recommended_sampling(source: Source) -> dict[str, Any]:
    """What is recommended, by the names of sampling params."""
    path = Path(source.path)
    values = _of_gguf(path) if source.gguf else _of_folder(path)
    return {name: value for name, value in values.items() if value is not None}


def _of_folder(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "generation_config.json").read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("%s/generation_config.json is left out: %s", folder, error)
        return {}
    return {name: config.get(name) for name in _NAMES} if isinstance(config, Mapping) else {}


def _of_gguf(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader  # comes with vLLM's plugin for such files

    fields = GGUFReader(path).fields
    found = {name: fields[key].contents() for key, name in _GGUF_KEYS.items() if key in fields}
    # Of single precision: as it was written.
    return {n: float(f"{v:.7g}") if isinstance(v, float) else v for n, v in found.items()}
