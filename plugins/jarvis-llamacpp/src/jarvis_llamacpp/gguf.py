"""Reads the header of a GGUF file: its metadata, and how long the file must be.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

MAGIC = b"GGUF"

_MOST_KEYS = 65_536
_MOST_TENSORS = 1 << 20
_MOST_STRING_BYTES = 1 << 20
_MOST_ARRAY_ITEMS = 4096
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}

# (items, bytes) of one block, by the number of the tensor's type.
BLOCKS = {
    0: (1, 4),  # f32
    1: (1, 2),  # f16
    2: (32, 18),  # q4_0
    3: (32, 20),  # q4_1
    6: (32, 22),  # q5_0
    7: (32, 24),  # q5_1
    8: (32, 34),  # q8_0
    9: (32, 36),  # q8_1
    10: (256, 84),  # q2_K
    11: (256, 110),  # q3_K
    12: (256, 144),  # q4_K
    13: (256, 176),  # q5_K
    14: (256, 210),  # q6_K
    15: (256, 292),  # q8_K
    16: (256, 66),  # iq2_xxs
    17: (256, 74),  # iq2_xs
    18: (256, 98),  # iq3_xxs
    19: (256, 50),  # iq1_s
    20: (32, 18),  # iq4_nl
    21: (256, 110),  # iq3_s
    22: (256, 82),  # iq2_s
    23: (256, 136),  # iq4_xs
    24: (1, 1),  # i8
    25: (1, 2),  # i16
    26: (1, 4),  # i32
    27: (1, 8),  # i64
    28: (1, 8),  # f64
    29: (256, 56),  # iq1_m
    30: (1, 2),  # bf16
    34: (256, 54),  # tq1_0
    35: (256, 66),  # tq2_0
    39: (32, 17),  # mxfp4
    40: (64, 36),  # nvfp4
    41: (128, 18),  # q1_0
    42: (64, 18),  # q2_0
}


_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""Keys of what its publisher recommends. Source: llama.cpp, src/llama-arch.cpp, in
llama-cpp-python 0.3.36; ``gguf/metadata.py`` there fills them from ``generation_config.json``."""


class GgufError(Exception):
    """The file is no GGUF file that can be loaded; the message says what is wrong with it."""


@frozen(kw_only=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        metadata: Scalars, texts and short arrays by key. Long arrays, as the vocabulary, are left
            out.
        tensors: Number of tensors in this file.
        file_bytes: Bytes of the file.
        needed_bytes: Bytes that its tensors take with everything before them.
    """

    metadata: dict[str, Any]
    tensors: int
    file_bytes: int
    needed_bytes: int

    @property
    def architecture(self) -> str:
        """The model family's name; empty if the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def sampling(self) -> dict[str, Any]:
        """What its publisher recommends, by the names of sampling params."""
        found = {name: self.metadata.get(key) for key, name in _SAMPLING.items()}
        return {name: _decimal(value) for name, value in found.items() if value is not None}

    def text(self, key: str) -> str | None:
        """A text of the metadata, None if it is missing or empty."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def of_model(self, key: str) -> Any:
        """A value under the architecture's own prefix, None if it is missing."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        """A whole number under the architecture's own prefix."""
        value = self.of_model(key)
        return value if isinstance(value, int) else default


def _decimal(value: Any) -> Any:
    """A number of single precision as it was written: 0.6, not 0.6000000238418579."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def read_header(path: Path) -> GgufHeader:
    """Read a file's header.

    Raises:
        GgufError: It is empty, cut off, or no GGUF file that can be loaded.
        OSError: It cannot be read.
    """
    with _mapped(path) as data:
        return _Reader(data).header()


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise GgufError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


class _Reader:
    """A place in a file that moves on with each read."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != MAGIC:
            raise GgufError("it is not a GGUF file")
        self._at = 4
        version = self._scalar("I")
        if version & 0xFFFF == 0:
            raise GgufError("it was written for machines of the other byte order")
        if version not in (2, 3):
            raise GgufError(f"GGUF version {version} is not supported, only 2 and 3")
        tensors, keys = self._scalar("Q"), self._scalar("Q")
        if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
            raise GgufError("its header is damaged: it announces more entries than can be")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            value = self._value(self._scalar("I"))
            if value is not None:
                metadata[key] = value
        end = max((self._tensor_end() for _ in range(tensors)), default=0)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise GgufError("its header is damaged: the alignment is no positive number")
        start = -(-self._at // alignment) * alignment if tensors else self._at
        return GgufHeader(
            metadata=metadata,
            tensors=tensors,
            file_bytes=len(self._data),
            needed_bytes=start + end,
        )

    def _take(self, count: int) -> int:
        """Move on; the place before."""
        at = self._at
        if count > len(self._data) - at:
            raise GgufError(
                f"it is cut off: its header goes on after the file's {len(self._data):,} bytes"
            )
        self._at = at + count
        return at

    def _scalar(self, code: str) -> Any:
        size = struct.calcsize(code)
        return struct.unpack_from("<" + code, self._data, self._take(size))[0]

    def _text(self) -> str:
        length = self._scalar("Q")
        if length > _MOST_STRING_BYTES:
            raise GgufError("its header is damaged: it holds a text that is too long")
        at = self._take(length)
        return self._data[at : at + length].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(self._scalar("I"), self._scalar("Q"))
        if kind not in _SCALARS:
            raise GgufError(f"its header is damaged: there is no value type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self, kind: int, count: int) -> tuple[Any, ...] | None:
        if kind == _STRING:
            return self._texts(count)
        if kind not in _SCALARS:
            raise GgufError(f"its header is damaged: there is no array of value type {kind}")
        code = _SCALARS[kind]
        at = self._take(count * struct.calcsize(code))
        if count > _MOST_ARRAY_ITEMS:
            return None
        return struct.unpack_from(f"<{count}{code}", self._data, at)

    def _texts(self, count: int) -> tuple[str, ...] | None:
        if count <= _MOST_ARRAY_ITEMS:
            return tuple(self._text() for _ in range(count))
        # The vocabulary: only its length matters, and there are hundreds of thousands of these.
        length = struct.Struct("<Q").unpack_from
        data, at, last = self._data, self._at, len(self._data) - 8
        for _ in range(count):
            if at > last:
                at = last + 9  # after the end, which _take refuses
                break
            at += 8 + length(data, at)[0]
        self._take(at - self._at)
        return None

    def _tensor_end(self) -> int:
        """Bytes from the start of the data section to this tensor's end."""
        name = self._text()
        dimensions = self._scalar("I")
        if dimensions > 4:
            raise GgufError(f"its header is damaged: tensor {name!r} has {dimensions} dimensions")
        items = 1
        for _ in range(dimensions):
            items *= self._scalar("Q")
        kind, offset = self._scalar("I"), self._scalar("Q")
        block_items, block_bytes = BLOCKS.get(kind, (1, 0))
        return int(offset + items // block_items * block_bytes)
