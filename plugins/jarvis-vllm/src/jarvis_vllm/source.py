"""The files of a model, looked at before vLLM hears of them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from jarvis_core import ConfigError, ModelSourceError, ModelSpec
from jarvis_vllm.settings import VllmSettings

_WEIGHTS = ("*.safetensors",)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@frozen(kw_only=True)
class Source:
    """Where a model is.

    Attributes:
        path: Its directory, or its GGUF file.
        tokenizer: Directory or hub id of its tokenizer, or its GGUF file.
        gguf: Whether it is a GGUF file.
        model_type: The model family's name in its config.json.
        chat_template: Jinja template in a file of the model's processor, which counts more than
            that of its tokenizer.
    """

    path: str
    tokenizer: str
    gguf: bool = False
    model_type: str | None = None
    chat_template: str | None = None


def find_source(model: ModelSpec, settings: VllmSettings, *, device: str) -> Source:
    """Look at a model's files.

    Args:
        model: What to load.
        settings: How.
        device: Kind of device that vLLM found.

    Raises:
        ConfigError: vLLM cannot load such files here.
        ModelSourceError: Files are missing or damaged.
    """
    path = Path(model.path)
    if path.suffix == ".gguf":
        _check_gguf(path, device)
        return Source(path=str(path), tokenizer=settings.tokenizer or str(path), gguf=True)
    if not path.is_dir():
        raise ModelSourceError(
            f"{model.source}: no such directory; vLLM takes a directory with config.json and "
            "safetensors files, a hub id (owner/name), or on a GPU a GGUF file"
        )
    config = _read_config(path)
    _check_weights(path, settings)
    return Source(
        path=str(path),
        tokenizer=settings.tokenizer or str(path),
        model_type=config.get("model_type"),
        chat_template=_processor_template(path),
    )


def _processor_template(folder: Path) -> str | None:
    """The template of a model that takes more than text, where its tokenizer has none or another.

    Source: transformers.ProcessorMixin.get_processor_dict, 5.19.
    """
    if (folder / "chat_template.jinja").is_file():
        return None  # tokenizers read that one too
    for name in ("chat_template.json", "processor_config.json"):
        try:
            template = json.loads((folder / name).read_text())["chat_template"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(template, str):
            return template
    return None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelSourceError(
            f"{folder}: there is no config.json, so this is no model in the format of Hugging Face"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"{folder}/config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelSourceError(f"{folder}/config.json holds no object")
    if "auto_map" in config and not config.get("model_type"):
        raise ModelSourceError(
            f"{folder}/config.json needs code that comes with the model, which is never run"
        )
    return config


def _check_weights(folder: Path, settings: VllmSettings) -> None:
    if settings.load_format == "dummy":
        return
    files = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    if not files:
        pickled = [file.name for pattern in _PICKLED for file in folder.glob(pattern)]
        reason = (
            f"{pickled[0]} is a pickle, which can run code when it is loaded"
            if pickled
            else "there are no weights"
        )
        raise ModelSourceError(f"{folder}: {reason}; only safetensors files are loaded")
    for file in files:
        check_safetensors(file)


def check_safetensors(path: Path) -> None:
    """Refuse a file that is no safetensors file or is cut short.

    Raises:
        ModelSourceError: It says what is wrong.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("it is no safetensors file")
            header = json.loads(file.read(length))
        ends = [
            tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"
        ]
        whole = 8 + length + max(ends, default=0)
        if size < whole:
            raise ValueError(f"it has {size:,} bytes of {whole:,}: load it again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error) if type(error) in (ValueError, OSError) else "its header is damaged"
        raise ModelSourceError(f"{path}: {reason}") from error


def _check_gguf(path: Path, device: str) -> None:
    if not path.is_file():
        raise ModelSourceError(f"{path}: no such file")
    if device == "cpu":
        raise ConfigError(
            f"{path.name}: vLLM computes with GGUF files on GPUs only; engine 'llama_cpp' serves "
            "them on a CPU"
        )
    if find_spec("vllm_gguf_plugin") is None:
        raise ConfigError(
            f"{path.name}: vLLM needs its plugin for GGUF files: pip install 'jarvis-vllm[gguf]', "
            "or serve it with engine 'llama_cpp'"
        )
