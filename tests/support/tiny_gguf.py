"""Writes GGUF files: tiny ones of random weights, and copies of others that say more."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HIDDEN, CONTEXT = 32, 64, 64
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXT = tuple("▁" + word for word in ("a", "cat", "tax", "law", "sat", "down", "word", "short"))
LETTERS = tuple("▁" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789.,?'") + tuple(
    "abcdefghijklmnopqrstuvwxyz"
)
VOCABULARY = tuple(dict.fromkeys(WORDS + TEXT + LETTERS))

Value = str | bool | int | float | Sequence[str] | Sequence[int]
Tensors = Mapping[str, tuple[int, ...]]


def write_encoder(path: Path, *, pooling: int) -> Path:
    """A BERT of one layer; ``pooling`` is llama.cpp's number: 1 mean, 2 cls, 4 rank."""
    special = {name: VOCABULARY.index(f"[{name}]") for name in ("PAD", "UNK", "CLS", "SEP")}
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "general.type": "model",
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": HIDDEN,
        "bert.block_count": 1,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "bert",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": list(VOCABULARY),
        "tokenizer.ggml.token_type": [3 if t in WORDS else 1 for t in VOCABULARY],
        "tokenizer.ggml.bos_token_id": special["CLS"],
        "tokenizer.ggml.cls_token_id": special["CLS"],
        "tokenizer.ggml.seperator_token_id": special["SEP"],
        "tokenizer.ggml.unknown_token_id": special["UNK"],
        "tokenizer.ggml.padding_token_id": special["PAD"],
    }
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, len(VOCABULARY)),
        "token_types.weight": (WIDTH, 2),
        "position_embd.weight": (WIDTH, CONTEXT),
    }
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        tensors |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensors |= {f"blk.0.{name}.weight": (WIDTH, WIDTH), f"blk.0.{name}.bias": (WIDTH,)}
    tensors |= {"blk.0.ffn_up.weight": (WIDTH, HIDDEN), "blk.0.ffn_up.bias": (HIDDEN,)}
    tensors |= {"blk.0.ffn_down.weight": (HIDDEN, WIDTH), "blk.0.ffn_down.bias": (WIDTH,)}
    if pooling == 4:
        tensors |= {"cls.weight": (WIDTH, WIDTH), "cls.bias": (WIDTH,)}
        tensors |= {"cls.output.weight": (WIDTH, 1), "cls.output.bias": (1,)}
    return write_gguf(path, metadata, tensors)


def write_lora(
    path: Path,
    *,
    seed: int = 0,
    architecture: str = "llama",
    width: int = 576,
    scale: float = 0.3,
    layers: int = 30,
) -> Path:
    """A LoRA adapter of rank 4 for the query projections of SmolLM2-135M."""
    metadata: dict[str, Value] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    tensors: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        name = f"blk.{layer}.attn_output.weight"
        tensors |= {f"{name}.lora_a": (width, 4), f"{name}.lora_b": (4, width)}
    return write_gguf(path, metadata, tensors, seed=seed, scale=scale)


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Tensors,
    *,
    seed: int = 0,
    scale: float = 0.3,
) -> Path:
    """A file of random float32 tensors; a shape's first number is that of neighbours in memory."""
    random_numbers = random.Random(seed)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, shape in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", 0, len(data))
        count = 1
        for size in shape:
            count *= size
        middle = 1.0 if "norm.weight" in name else 0.0
        numbers = array("f", (random_numbers.gauss(middle, scale) for _ in range(count)))
        data += numbers.tobytes() + b"\0" * (-len(numbers) * 4 % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


def write_with_metadata(source: Path, path: Path, metadata: Mapping[str, Value]) -> Path:
    """A copy of a file with more keys at the beginning of its metadata."""
    added = b"".join(_text(key) + _value(value) for key, value in metadata.items())
    # What fills up to the alignment, so that tensors stay where the header says.
    room = -(len(added) + len(_text("test.filler") + _value(""))) % 32
    added += _text("test.filler") + _value("-" * room)
    content = source.read_bytes()
    version, tensors, keys = struct.unpack_from("<IQQ", content, 4)
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys + len(metadata) + 1)
    path.write_bytes(head + added + content[len(head) :])
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
    items = [_text(v) if isinstance(v, str) else struct.pack("<i", v) for v in value]
    kind = 8 if isinstance(value[0], str) else 5
    return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)
