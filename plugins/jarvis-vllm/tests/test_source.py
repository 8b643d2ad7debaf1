"""Files of models and adapters that are looked at before vLLM hears of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jarvis_core import ConfigError, ModelSourceError, ModelSpec
from jarvis_vllm.adapters import find_adapters
from jarvis_vllm.settings import VllmSettings
from jarvis_vllm.source import Source, find_source


def safetensors(path: Path, *, missing: int = 0) -> None:
    header = json.dumps({"w": {"dtype": "F16", "shape": [8], "data_offsets": [0, 16]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(16)
    path.write_bytes(whole[: len(whole) - missing])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that vLLM would take."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    safetensors(tmp_path / "model.safetensors")
    return tmp_path


def find(path: Path | str, device: str = "cuda", **settings: Any) -> Source:
    spec = ModelSpec(name="m", source=str(path), path=str(path))
    return find_source(spec, VllmSettings(**settings), device=device)


def test_a_directory(model: Path) -> None:
    assert find(model) == Source(path=str(model), tokenizer=str(model), model_type="llama")
    assert find(model, tokenizer="/other").tokenizer == "/other"


def test_a_template_of_the_models_processor_counts_more_than_its_tokenizers(model: Path) -> None:
    (model / "processor_config.json").write_text(json.dumps({"chat_template": "older"}))
    assert find(model).chat_template == "older"
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "a template"}))
    assert find(model).chat_template == "a template"
    (model / "chat_template.jinja").write_text("newest, which tokenizers read")
    assert find(model).chat_template is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"chat_template": {"default": "x"}}'])
def test_a_processor_without_a_template_leaves_it_to_the_tokenizer(
    content: str, model: Path
) -> None:
    (model / "chat_template.json").write_text(content)
    assert find(model).chat_template is None


def test_what_is_missing_is_named(model: Path) -> None:
    with pytest.raises(ModelSourceError, match="no such directory; vLLM takes a directory with"):
        find(model / "nothing")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="there are no weights; only safetensors"):
        find(model)
    assert find(model, load_format="dummy")
    (model / "config.json").unlink()
    with pytest.raises(ModelSourceError, match="there is no config.json"):
        find(model)


def test_pickles_are_never_loaded(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ModelSourceError, match=r"pytorch_model.bin is a pickle, which can run"):
        find(model)


def test_code_that_comes_with_a_model_is_never_run(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(ModelSourceError, match="needs code that comes with the model"):
        find(model)


@pytest.mark.parametrize("config", ["{", "[]", "\x00"])
def test_a_config_that_is_no_config_is_told(model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    with pytest.raises(ModelSourceError, match=r"config.json (cannot be read|holds no object)"):
        find(model)


def test_weights_that_were_cut_short_are_told_with_the_numbers(model: Path) -> None:
    safetensors(model / "model.safetensors", missing=3)
    with pytest.raises(ModelSourceError, match=r"it has \d+ bytes of \d+: load it again"):
        find(model)


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", bytes(64), b"\x10" + bytes(7) + b"[1,2,3,4,5,6,7]"]
)
def test_weights_that_are_none_are_told(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelSourceError, match=r"model\.safetensors: it"):
        find(model)


def test_gguf_files_need_a_gpu_and_the_plugin(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    with pytest.raises(ModelSourceError, match="no such file"):
        find(file)
    file.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="on GPUs only; engine 'llama_cpp' serves them on a CPU"):
        find(file, device="cpu")
    with pytest.raises(ConfigError, match=r"pip install 'jarvis-vllm\[gguf\]'"):
        find(file)


# -- adapters --------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A directory that vLLM would take for an adapter."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 12}))
    safetensors(tmp_path / "adapter_model.safetensors")
    return tmp_path


def test_an_adapter_tells_its_rank(adapter: Path) -> None:
    (found,) = find_adapters({"legal": str(adapter)})

    assert (found.name, found.path, found.rank) == ("legal", str(adapter), 12)


def test_an_adapter_without_its_files_is_named(adapter: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"adapter 'legal' \(/nowhere\): there is no"):
        find_adapters({"legal": "/nowhere"})
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelSourceError, match=r"there is no adapter_model\.safetensors"):
        find_adapters({"legal": str(adapter)})


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"r": 0}', '{"r": "8"}'])
def test_an_adapter_without_a_rank_is_refused(adapter: Path, config: str) -> None:
    (adapter / "adapter_config.json").write_text(config)
    with pytest.raises(ModelSourceError, match="rank"):
        find_adapters({"legal": str(adapter)})


def test_an_adapter_that_is_damaged_is_refused(adapter: Path) -> None:
    safetensors(adapter / "adapter_model.safetensors", missing=1)
    with pytest.raises(ModelSourceError, match="load it again"):
        find_adapters({"legal": str(adapter)})
