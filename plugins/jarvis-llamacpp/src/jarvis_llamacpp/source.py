"""From a model's source to GGUF files that are there, whole, and of a kind that generates text."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from jarvis_core import ModelSourceError, ModelSpec
from jarvis_llamacpp.builtin import INSTALL_SMOLLM2, SMOLLM2, find_smollm2
from jarvis_llamacpp.gguf import GgufError, GgufHeader, read_header

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NO_MODEL = {
    "adapter": "a LoRA adapter",
    "imatrix": "an importance matrix",
    "mmproj": "an image projector",
}


@frozen(kw_only=True)
class Weights:
    """The files of one model.

    Attributes:
        path: The file to load; of several shards the first.
        header: Its header.
        total_bytes: Bytes of all files.
    """

    path: Path
    header: GgufHeader
    total_bytes: int


def find_weights(model: ModelSpec) -> Weights:
    """Find a model's files and check that llama.cpp can load them.

    Raises:
        ModelSourceError: Files are missing, damaged, or not what this engine loads.
    """
    try:
        return _check(_locate(model.path))
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ModelSourceError(
            f"{model.path}: cannot be read: {reason}; check the path and its permissions"
        ) from error


def _locate(source: str) -> Path:
    if source == SMOLLM2:
        found = find_smollm2()
        if found is None:
            raise ModelSourceError(
                f"{SMOLLM2}: the package with the built-in model is not installed: "
                f"{INSTALL_SMOLLM2}"
            )
        return found
    path = Path(source)
    if not path.exists():
        raise ModelSourceError(
            f"{source}: there is no such file or directory; "
            "JARVIS_MODEL_NAME takes the path of a GGUF file"
        )
    if path.is_dir():
        return _in_directory(path)
    if not path.is_file():
        raise ModelSourceError(f"{source}: this is no regular file; name a GGUF file")
    return path


def _in_directory(folder: Path) -> Path:
    """The one model in a directory."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    models = [n for n in names if n.endswith(".gguf") and "mmproj" not in n.lower()]
    firsts = [n for n in models if (m := _SHARD.fullmatch(n)) is None or int(m["number"]) == 1]
    if len(firsts) == 1:
        return folder / firsts[0]
    if firsts:
        raise ModelSourceError(
            f"{folder}: the directory holds {len(firsts)} GGUF models; name one of them: "
            + ", ".join(firsts[:8])
        )
    if any(n.endswith((".safetensors", ".bin", ".pt")) for n in names):
        raise _not_gguf(folder)
    raise ModelSourceError(f"{folder}: the directory holds no GGUF file")


def _check(path: Path) -> Weights:
    if path.name.endswith((".safetensors", ".bin", ".pt")):
        raise _not_gguf(path)
    header = _read(path)
    total = header.file_bytes
    shard = _SHARD.fullmatch(path.name)
    if shard is not None:
        if int(shard["number"]) != 1:
            raise ModelSourceError(
                f"{path}: this is shard {int(shard['number'])} of {int(shard['count'])}; "
                "name the first one"
            )
        for number in range(2, int(shard["count"]) + 1):
            name = f"{shard['stem']}-{number:05}-of-{shard['count']}.gguf"
            if not path.with_name(name).exists():
                raise ModelSourceError(f"{path}: shard {name} is missing beside it; download it")
            total += _read(path.with_name(name)).file_bytes
    what = _NO_MODEL.get(header.text("general.type") or "model")
    if not header.architecture:
        what = "a GGUF file that names no model architecture"
    elif header.tensors == 0 and shard is None:
        what = "a vocabulary without weights"
    if what is not None:
        raise ModelSourceError(f"{path}: this is {what}, not a model; name the model's own file")
    return Weights(path=path, header=header, total_bytes=total)


def _read(path: Path) -> GgufHeader:
    try:
        header = read_header(path)
    except GgufError as error:
        raise ModelSourceError(
            f"{path}: {error}; engine llama_cpp loads GGUF files, download it again or name another"
        ) from error
    if header.needed_bytes > header.file_bytes:
        raise ModelSourceError(
            f"{path}: it is cut off: {header.file_bytes:,} bytes are there, "
            f"{header.needed_bytes:,} are needed; download it again"
        )
    return header


def _not_gguf(path: Path) -> ModelSourceError:
    return ModelSourceError(
        f"{path}: these weights are not GGUF, and engine llama_cpp loads only GGUF; serve them "
        "with engine vllm (JARVIS_INFERENCE_ENGINE=vllm), or name a GGUF file of this model"
    )
