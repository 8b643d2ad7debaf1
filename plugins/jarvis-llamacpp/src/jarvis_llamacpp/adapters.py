"""LoRA adapters of a model: files that are there, whole, and made for its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jarvis_core import ModelSourceError
from jarvis_llamacpp.gguf import GgufError, read_header

_CONVERT = "convert it with llama.cpp's convert_lora_to_gguf.py"


def find_adapters(adapters: Mapping[str, str], architecture: str) -> dict[str, Path]:
    """The GGUF file of each adapter, by the name that requests choose it by.

    Args:
        adapters: Paths as the operator wrote them, by name.
        architecture: The model's.

    Raises:
        ModelSourceError: One is missing, damaged, or no adapter of such a model.
    """
    found = {}
    for name, path in adapters.items():
        try:
            found[name] = _check(name, Path(path), architecture)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise _refusal(name, path, f"it cannot be read: {reason}") from error
    return found


def _check(name: str, path: Path, architecture: str) -> Path:
    if not path.exists():
        raise _refusal(name, path, "there is no such file; check [models.….adapters]")
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise _refusal(name, path, f"the directory holds {len(files)} GGUF files; {_CONVERT}")
        path = files[0]
    if not path.is_file():
        raise _refusal(name, path, "this is no regular file")
    try:
        header = read_header(path)
    except GgufError as error:
        raise _refusal(name, path, f"{error}; adapters must be GGUF files: {_CONVERT}") from error
    kind = header.text("adapter.type")
    if header.text("general.type") != "adapter" or kind != "lora":
        raise _refusal(name, path, "this is no LoRA adapter")
    if header.architecture != architecture:
        raise _refusal(
            name,
            path,
            f"it is for architecture {header.architecture!r}, and the model's is {architecture!r}",
        )
    if header.needed_bytes > header.file_bytes:
        raise _refusal(name, path, "it is cut off; copy or convert it again")
    return path


def _refusal(name: str, path: Path | str, reason: str) -> ModelSourceError:
    return ModelSourceError(f"adapter {name!r}, {path}: {reason}")
