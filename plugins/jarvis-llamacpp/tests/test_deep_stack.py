"""Long words in tokenizers that recurse."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from jarvis_llamacpp.deep_stack import run_with_stack

PROGRAM = """
import sys
from llama_cpp import llama_cpp as lib
from jarvis_llamacpp.deep_stack import run_with_stack
from jarvis_llamacpp.model import LlamaModel

params = lib.llama_model_default_params()
params.vocab_only = True
model = object.__new__(LlamaModel)
model._model = lib.llama_model_load_from_file(sys.argv[1].encode(), params)
model._vocab = lib.llama_model_get_vocab(model._model)
for word in ("a", " ", "1", "!", "\\n"):
    count = 200_000
    ids = run_with_stack(lambda: model.tokenize_text(word.encode() * count), count)
    print(len(ids))
"""


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def vocabulary(path: Path) -> Path:
    """A vocabulary of single bytes, split as DeepSeek's models do: with ``std::regex``."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    tokens = [chr(b if b in visible else 256 + hidden.index(b)) for b in range(256)]
    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
        text("tokenizer.ggml.pre") + struct.pack("<I", 8) + text("deepseek-llm"),
        text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", 9, 8, len(tokens))
        + b"".join(map(text, tokens)),
        text("tokenizer.ggml.token_type")
        + struct.pack("<IIQ", 9, 5, len(tokens))
        + struct.pack(f"<{len(tokens)}i", *[1] * len(tokens)),
        text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 1) + text("a b"),
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    return path


def test_a_very_long_word_does_not_end_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(vocabulary(tmp_path / "vocabulary.gguf"))],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["200000"] * 5


def test_what_the_work_returns_or_raises_comes_back() -> None:
    assert run_with_stack(lambda: 42, 10) == 42
    with pytest.raises(ZeroDivisionError):
        run_with_stack(lambda: 1 // 0, 10)
