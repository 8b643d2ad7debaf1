"""Headers of GGUF files, whole and damaged."""

from __future__ import annotations

import ctypes
import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jarvis_llamacpp.builtin import find_smollm2
from jarvis_llamacpp.gguf import BLOCKS, GgufError, GgufHeader, read_header


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def gguf(
    *entries: bytes, tensors: tuple[bytes, ...] = (), version: int = 3, data: bytes = b""
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    head += b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data if tensors else head


def tensor(name: str, kind: int, shape: tuple[int, ...], offset: int) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(content: bytes) -> GgufHeader:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return read_header(path)

    return read


def test_what_the_publisher_recommends_has_the_names_of_sampling_params(read: Any) -> None:
    header = read(
        gguf(
            entry("general.sampling.temp", 6, struct.pack("<f", 0.6)),
            entry("general.sampling.top_k", 5, struct.pack("<i", 20)),
            entry("general.sampling.top_p", 6, struct.pack("<f", 0.95)),
            entry("general.sampling.min_p", 6, struct.pack("<f", 0.0)),
            entry("general.sampling.penalty_repeat", 6, struct.pack("<f", 1.05)),
            entry("general.sampling.mirostat_tau", 6, struct.pack("<f", 5.0)),
        )
    )

    assert header.sampling == {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.0,
        "repetition_penalty": 1.05,
    }


def test_a_file_that_recommends_nothing(read: Any) -> None:
    assert read(gguf(entry("general.architecture", 8, text("toy")))).sampling == {}


def test_scalars_texts_and_short_arrays_are_read(read: Any) -> None:
    header = read(
        gguf(
            entry("general.architecture", 8, text("toy")),
            entry("toy.context_length", 4, struct.pack("<I", 4096)),
            entry("toy.scale", 6, struct.pack("<f", 0.5)),
            entry("toy.flag", 7, b"\1"),
            entry("toy.big", 10, struct.pack("<Q", 2**40)),
            entry("toy.heads", 9, struct.pack("<IQ3i", 5, 3, 1, 2, 3)),
            entry("toy.names", 9, struct.pack("<IQ", 8, 2) + text("a") + text("ö")),
        )
    )

    assert header.architecture == "toy"
    assert header.number("context_length") == 4096
    assert header.of_model("scale") == 0.5
    assert header.of_model("flag") is True
    assert header.number("big") == 2**40
    assert header.of_model("heads") == (1, 2, 3)
    assert header.of_model("names") == ("a", "ö")
    assert header.of_model("nothing") is None


@pytest.mark.parametrize("kind", [0, 8])
def test_long_arrays_are_passed_over(read: Any, kind: int) -> None:
    items = b"\1" * 5000 if kind == 0 else text("tok") * 5000
    header = read(
        gguf(
            entry("long", 9, struct.pack("<IQ", kind, 5000) + items),
            entry("after", 4, struct.pack("<I", 7)),
        )
    )

    assert header.metadata == {"after": 7}


def test_the_needed_length_is_that_of_the_furthest_tensor(read: Any) -> None:
    tensors = (tensor("b", 0, (8,), 64), tensor("a", 2, (64, 2), 0))
    whole = gguf(tensors=tensors, data=b"\0" * 96)
    header = read(whole)

    assert header.needed_bytes == header.file_bytes == len(whole)
    assert read(whole[:-1]).needed_bytes == len(whole)


def test_the_real_models_file_is_exactly_as_long_as_needed() -> None:
    path = find_smollm2()
    assert path is not None
    header = read_header(path)

    assert header.architecture == "llama"
    assert header.number("context_length") == 8192
    assert header.text("general.license") == "apache-2.0"
    assert header.needed_bytes == header.file_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GG", "not a GGUF file"),
        (b"PK\3\4 a zip file", "not a GGUF file"),
        (b"GGUF\3\0\0", "cut off"),
        (gguf(version=1), "version 1 is not supported"),
        (gguf(version=4), "version 4 is not supported"),
        (gguf(version=3 << 24), "other byte order"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "damaged"),
        (gguf(text("k") + struct.pack("<I", 99)), "no value type 99"),
        (gguf(entry("k", 9, struct.pack("<IQ", 9, 1))), "no array of value type 9"),
        (gguf(entry("k", 9, struct.pack("<IQ", 4, 2**62))), "cut off"),
        (gguf(entry("k", 9, struct.pack("<IQ", 8, 2**62) + text("a"))), "cut off"),
        (gguf(entry("k", 9, struct.pack("<IQ", 8, 9999) + struct.pack("<Q", 2**63))), "cut off"),
        (gguf(struct.pack("<Q", 2**63)), "too long"),
        (gguf(tensors=(tensor("t", 0, (1,) * 5, 0),)), "5 dimensions"),
        (gguf(entry("general.alignment", 4, struct.pack("<I", 0))), "alignment"),
    ],
)
def test_damage_is_named(read: Any, content: bytes, reason: str) -> None:
    with pytest.raises(GgufError, match=reason):
        read(content)


def test_no_damage_raises_anything_else(read: Any) -> None:
    whole = gguf(
        entry("general.architecture", 8, text("toy")),
        entry("toy.names", 9, struct.pack("<IQ", 8, 3) + text("a") * 3),
        tensors=(tensor("b", 0, (8,), 0),),
        data=b"\0" * 32,
    )
    rng = random.Random(1)
    for _ in range(400):
        damaged = bytearray(whole[: rng.randint(1, len(whole))])
        for _ in range(rng.randint(0, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with suppress(GgufError):
            read(bytes(damaged))


def test_block_sizes_are_those_of_the_library() -> None:
    from llama_cpp._ggml import libggml

    libggml.ggml_type_size.restype = ctypes.c_size_t
    libggml.ggml_blck_size.restype = ctypes.c_int64

    for kind, (items, size) in BLOCKS.items():
        assert (libggml.ggml_blck_size(kind), libggml.ggml_type_size(kind)) == (items, size)
