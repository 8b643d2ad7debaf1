"""LoRA adapters: their files, looked at before vLLM hears of them.

A request for an adapter that cannot be read ends vLLM's engine for everyone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from jarvis_core import ModelSourceError
from jarvis_vllm.source import check_safetensors

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"


@frozen(kw_only=True)
class Adapter:
    """One adapter.

    Attributes:
        name: The name that requests choose it by.
        path: Its directory.
        rank: Its rank.
    """

    name: str
    path: str
    rank: int


def find_adapters(paths: Mapping[str, str]) -> tuple[Adapter, ...]:
    """The adapters of a model.

    Args:
        paths: Their directories by name.

    Raises:
        ModelSourceError: A file is missing or is not what it should be.
    """
    return tuple(_adapter(name, Path(path)) for name, path in paths.items())


def _adapter(name: str, folder: Path) -> Adapter:
    def refusal(reason: str) -> ModelSourceError:
        return ModelSourceError(f"adapter {name!r} ({folder}): {reason}")

    for file in (_CONFIG, _WEIGHTS):
        if not (folder / file).is_file():
            raise refusal(f"there is no {file}; vLLM takes adapters as PEFT saves them")
    try:
        config = json.loads((folder / _CONFIG).read_text())
        rank = config["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise refusal(f"{_CONFIG} cannot be read or has no rank 'r'") from error
    if type(rank) is not int or rank < 1:
        raise refusal(f"{_CONFIG} has rank {rank!r}, it must be a whole number of at least 1")
    check_safetensors(folder / _WEIGHTS)
    return Adapter(name=name, path=str(folder), rank=rank)
