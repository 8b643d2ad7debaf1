"""What GGUF files recommend for sampling, read with the library that vLLM's plugin brings."""

from __future__ import annotations

from pathlib import Path

from tiny_gguf import write_gguf

from jarvis_vllm.recommended import recommended_sampling
from jarvis_vllm.source import Source


def test_a_gguf_file_recommends_what_it_does_to_llama_cpp(tmp_path: Path) -> None:
    metadata = {
        "general.architecture": "llama",
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": 20,
        "general.sampling.penalty_repeat": 1.05,
        "general.sampling.mirostat": 2,
    }
    file = str(write_gguf(tmp_path / "m.gguf", metadata, {"token_embd.weight": (32, 32)}))
    source = Source(path=file, tokenizer=file, gguf=True)

    assert recommended_sampling(source) == {
        "temperature": 0.6,
        "top_k": 20,
        "repetition_penalty": 1.05,
    }
