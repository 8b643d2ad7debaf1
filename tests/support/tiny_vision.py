"""A very small model that takes images: shaped as Idefics3, with random weights of its own.

It says nonsense, but what it says depends on what it sees. The tokenizer is SmolLM2's with the
tokens of images behind. Of the models that vLLM knows it is one that needs no torchvision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOKENS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>")
PATCH = 14
TILE = 56
"""Pixels of a side of a tile, in which the model sees an image; larger ones are several tiles."""
SCALE = 2
TOKENS_OF_A_TILE = (TILE // PATCH // SCALE) ** 2

TEMPLATE = """
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{ '<image>' }}{% else %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def make(folder: Path, text_model: Path) -> None:
    """Write the model.

    Args:
        folder: Where to.
        text_model: A directory of Hugging Face, of which the tokenizer is taken.
    """
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    tokenizer, about = _tokenizer(text_model)
    first = tokenizer["added_tokens"][-len(TOKENS)]["id"]
    config = Idefics3Config(
        architectures=["Idefics3ForConditionalGeneration"],
        image_token_id=first,
        pad_token_id=2,
        scale_factor=SCALE,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "vocab_size": first + len(TOKENS),
            "max_position_embeddings": 2048,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        },
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:  # large enough for an image to tell on what is said
                values.normal_(std=0.2)
    model.save_pretrained(folder)
    for name, content in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", about),
        ("preprocessor_config.json", _image_processor()),
        (
            "processor_config.json",
            {"processor_class": "Idefics3Processor", "image_seq_len": TOKENS_OF_A_TILE},
        ),
    ):
        (folder / name).write_text(json.dumps(content))


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "Idefics3ImageProcessor",
        "do_image_splitting": True,
        "size": {"longest_edge": 2 * TILE},
        "max_image_size": {"longest_edge": TILE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _tokenizer(text_model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tokenizer = json.loads((text_model / "tokenizer.json").read_text())
    first = len(tokenizer["model"]["vocab"])
    like = tokenizer["added_tokens"][0]
    tokenizer["added_tokens"] += [
        {**like, "id": first + i, "content": text} for i, text in enumerate(TOKENS)
    ]
    about = json.loads((text_model / "tokenizer_config.json").read_text())
    return tokenizer, about | {"chat_template": TEMPLATE}
