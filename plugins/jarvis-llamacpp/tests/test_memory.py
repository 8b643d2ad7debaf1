"""What fits, and what is said of what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jarvis_core import InsufficientMemory, ModelSpec, SettingError
from jarvis_llamacpp.gguf import GgufHeader
from jarvis_llamacpp.memory import (
    available_memory,
    kv_bytes_per_token,
    plan_memory,
)
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.source import Weights, find_weights

GB = 10**9
LLAMA_8B = {
    "llama.block_count": 32,
    "llama.context_length": 131_072,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14_336,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.vocab_size": 128_256,
}
KV_8B = 131_072
"""Bytes of keys and values of one token: 32 layers of 8 heads of 128 halves, twice."""


def weights(total: int = 5 * GB, **changes: Any) -> Weights:
    metadata = {"general.architecture": "llama", **LLAMA_8B, **changes}
    header = GgufHeader(metadata=metadata, tensors=1, file_bytes=total, needed_bytes=total)
    return Weights(path=Path("/models/m.gguf"), header=header, total_bytes=total)


def settings(**values: Any) -> LlamaCppSettings:
    return LlamaCppSettings(**values)


def test_the_bytes_of_a_token_follow_from_the_metadata() -> None:
    assert kv_bytes_per_token(weights(), settings()) == KV_8B


def test_quantized_caches_take_less() -> None:
    small = settings(cache_type_k="q8_0", cache_type_v="q8_0")

    assert kv_bytes_per_token(weights(), small) == KV_8B * 34 // 64


def test_layers_may_differ_and_recurrent_ones_take_nothing() -> None:
    changes: dict[str, Any] = {"llama.attention.head_count_kv": (8, 0) * 16}

    assert kv_bytes_per_token(weights(**changes), settings()) == KV_8B // 2


def test_heads_may_have_their_own_width() -> None:
    changes = {"llama.attention.key_length": 256, "llama.attention.value_length": 64}

    assert kv_bytes_per_token(weights(**changes), settings()) == KV_8B * 320 // 256


def test_the_real_model_takes_what_llama_cpp_says() -> None:
    real = find_weights(ModelSpec(name="m", source="smollm2", path="smollm2"))

    assert kv_bytes_per_token(real, settings()) == 30 * 2 * 3 * 64 * 2


def test_by_default_long_models_get_a_moderate_context_and_room_for_several() -> None:
    plan = plan_memory(weights(), None, settings(), 64 * GB)

    assert (plan.context_length, plan.kv_size) == (8192, 16_384)
    assert plan.kv_bytes == 16_384 * KV_8B


def test_a_short_model_keeps_its_own_context() -> None:
    changes = {"llama.context_length": 2048}

    assert plan_memory(weights(**changes), None, settings(), None).context_length == 2048


def test_the_context_asked_for_is_used_even_if_it_is_longer_than_the_model_was_trained() -> None:
    plan = plan_memory(weights(), 200_000, settings(), None)

    assert (plan.context_length, plan.kv_size) == (200_000, 200_000)


def test_fewer_sequences_need_a_smaller_cache() -> None:
    assert plan_memory(weights(), 512, settings(max_num_seqs=2), None).kv_size == 2048


def test_the_default_context_shrinks_to_what_fits() -> None:
    plan = plan_memory(weights(), None, settings(), 6 * GB)

    assert 512 <= plan.context_length < 8192
    assert plan.total_bytes <= 6 * GB


def test_the_default_context_is_within_the_cache_that_was_asked_for() -> None:
    plan = plan_memory(weights(), None, settings(kv_size=4096), None)

    assert (plan.context_length, plan.kv_size) == (4096, 4096)


def test_a_cache_smaller_than_the_context_is_refused_naming_both_settings() -> None:
    with pytest.raises(SettingError) as caught:
        plan_memory(weights(), 8192, settings(kv_size=4096), None)
    message = caught.value.message

    assert "4,096" in message
    assert "8,192" in message
    assert "JARVIS_LLAMACPP_KV_SIZE" in message
    assert "JARVIS_MODEL_CONTEXT_WINDOW" in message


def test_a_context_that_does_not_fit_is_refused_with_the_numbers_and_what_would_fit() -> None:
    with pytest.raises(InsufficientMemory) as caught:
        plan_memory(weights(), 131_072, settings(), 10 * GB)
    message = caught.value.message

    assert "m.gguf" in message
    assert "weights 5.0 GB" in message
    assert "KV cache of 131,072 tokens 17.2 GB" in message
    assert "10.0 GB is free" in message
    assert "a context of 3" in message
    assert "JARVIS_MODEL_CONTEXT_WINDOW" in message


def test_weights_that_do_not_fit_are_refused_with_the_numbers() -> None:
    with pytest.raises(InsufficientMemory, match=r"weights 400.0 GB.* 16.0 GB is free; choose"):
        plan_memory(weights(400 * GB), None, settings(), 16 * GB)


def test_free_memory_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert available_memory(proc, cgroup) == 4000 * 1024

    cgroup.mkdir()
    (cgroup / "memory.max").write_text("3000000\n")
    (cgroup / "memory.current").write_text("1000000\n")
    (cgroup / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert available_memory(proc, cgroup) == 2_200_000

    (cgroup / "memory.max").write_text("max\n")
    assert available_memory(proc, cgroup) == 4000 * 1024


def test_free_memory_is_known_without_the_kernels_files(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) > 0


def test_sequences_get_contexts_of_their_own_where_memory_is_plenty() -> None:
    plan = plan_memory(weights(), None, settings(max_num_seqs=4), 64 * GB)

    assert (plan.unified, plan.kv_size) == (False, 4 * 8192)


def test_a_cache_with_a_whole_context_for_each_sequence_is_not_shared() -> None:
    apart = plan_memory(weights(), 1000, settings(kv_size=16 * 1024), 64 * GB)
    shared = plan_memory(weights(), 1000, settings(kv_size=16 * 1024 - 1), 64 * GB)

    assert (apart.unified, shared.unified) == (False, True)


def test_a_shared_cache_can_be_asked_for() -> None:
    plan = plan_memory(weights(), None, settings(max_num_seqs=4, kv_unified=True), 64 * GB)

    assert (plan.unified, plan.kv_size) == (True, 8192)


def test_contexts_of_their_own_shrink_until_they_fit() -> None:
    plan = plan_memory(weights(), None, settings(kv_unified=False), 16 * GB)

    assert plan.context_length < 8192
    assert plan.kv_size >= 16 * plan.context_length
    assert plan.total_bytes <= 16 * GB


def test_too_small_a_cache_for_contexts_of_their_own_is_refused() -> None:
    with pytest.raises(SettingError, match="together 131,072: raise JARVIS_LLAMACPP_KV_SIZE"):
        plan_memory(weights(), 8192, settings(kv_size=65_536, kv_unified=False), 64 * GB)


def test_the_store_takes_a_part_of_what_is_left() -> None:
    small = plan_memory(weights(), None, settings(), 12 * GB)
    named = plan_memory(weights(), None, settings(state_store_mib=100), 12 * GB)
    large = plan_memory(weights(), None, settings(), 640 * GB)

    assert small.store_bytes == (12 * GB - small.total_bytes) // 4
    assert named.store_bytes == 100 * 2**20
    assert large.store_bytes == 2**33
