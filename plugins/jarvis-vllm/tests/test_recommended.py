"""What a model's files recommend for sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jarvis_vllm.recommended import recommended_sampling
from jarvis_vllm.source import Source


def recommended(folder: Path) -> dict[str, Any]:
    return recommended_sampling(Source(path=str(folder), tokenizer=str(folder)))


def test_names_of_sampling_params_are_taken_as_they_are(tmp_path: Path) -> None:
    config = {
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 50,  # the default of transformers, which is a recommendation all the same
        "top_p": "high",
        "min_p": None,
        "max_new_tokens": 7,
        "eos_token_id": [1, 2],
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(config))

    assert recommended(tmp_path) == {"temperature": 0.6, "top_k": 50, "top_p": "high"}


def test_without_a_file_nothing_is_recommended(tmp_path: Path) -> None:
    assert recommended(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"3"])
def test_a_file_that_is_damaged_does_not_keep_a_model_from_loading(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "generation_config.json").write_bytes(content)

    assert recommended(tmp_path) == {}
