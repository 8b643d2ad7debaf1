"""Writes LoRA adapters as PEFT saves them, of the random numbers that ``tiny_gguf`` takes."""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path

RANK = 4


def write_peft(
    folder: Path, *, seed: int = 0, width: int = 576, scale: float = 0.3, layers: int = 30
) -> Path:
    """An adapter for the output projections of SmolLM2-135M: that of ``write_lora``.

    Source: https://huggingface.co/docs/safetensors, format; the names of a checkpoint of PEFT 0.18.
    """
    random_numbers = random.Random(seed)
    tensors = {}
    data = b""
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        for part, shape in (("lora_A", (RANK, width)), ("lora_B", (width, RANK))):
            numbers = array("f", (random_numbers.gauss(0, scale) for _ in range(RANK * width)))
            tensors[f"{name}.{part}.weight"] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": (len(data), len(data) + 4 * len(numbers)),
            }
            data += numbers.tobytes()
    header = json.dumps(tensors).encode()
    folder.mkdir(parents=True, exist_ok=True)
    whole = struct.pack("<Q", len(header)) + header + data
    (folder / "adapter_model.safetensors").write_bytes(whole)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["o_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
