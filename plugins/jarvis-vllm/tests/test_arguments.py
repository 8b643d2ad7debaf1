from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from jarvis_core import ModelSpec, SettingError
from jarvis_vllm.adapters import Adapter
from jarvis_vllm.arguments import (
    CPU_KV_CACHE_BYTES,
    check_devices,
    check_engine_args,
    check_length,
    engine_arguments,
)
from jarvis_vllm.settings import VllmSettings
from jarvis_vllm.source import Source

MODEL = ModelSpec(name="qwen", source="Qwen/Qwen3-0.6B", path="/m/qwen")
KNOWN = ("block_size", "model", "trust_remote_code", "max_num_seqs", "compilation_config")


def arguments(
    device: str = "cuda", gguf: bool = False, adapters: tuple[Adapter, ...] = (), **settings: Any
) -> dict[str, Any]:
    return engine_arguments(
        MODEL,
        VllmSettings(**settings),
        source=Source(path="/m/qwen", tokenizer="/m/tokenizer", gguf=gguf),
        adapters=adapters,
        device=device,
    )


def adapter(name: str, rank: int) -> Adapter:
    return Adapter(name=name, path=f"/a/{name}", rank=rank)


def test_what_is_always_so() -> None:
    found = arguments()

    assert (found["model"], found["tokenizer"]) == ("/m/qwen", "/m/tokenizer")
    assert found["trust_remote_code"] is False
    assert found["scheduling_policy"] == "priority"
    assert found["structured_outputs_config"] == {"backend": "guidance"}
    assert "enable_lora" not in found
    assert "kv_cache_memory_bytes" not in found
    assert "max_num_seqs" not in found, "what is unset is left to vLLM"


def test_settings_go_by_their_names() -> None:
    found = arguments(
        tensor_parallel_size=2,
        quantization="awq",
        speculative_config={"method": "ngram", "num_speculative_tokens": 3},
        engine_args={"block_size": 32},
    )

    assert found["tensor_parallel_size"] == 2
    assert found["quantization"] == "awq"
    assert found["speculative_config"] == {"method": "ngram", "num_speculative_tokens": 3}
    assert found["block_size"] == 32


def test_every_setting_is_an_argument_of_vllm_or_used_here() -> None:
    own = {
        *("max_model_len", "tokenizer", "enable_lora", "max_loras", "max_lora_rank"),
        *("engine_args", "hang_timeout", "log_level", "stream_interval_ms", "max_image_pixels"),
    }
    every = {field.name: 1 for field in fields(VllmSettings)}
    settings: dict[str, Any] = dict.fromkeys(every.keys() - own, 1)

    assert settings.keys() <= arguments(**settings).keys()


def test_on_a_cpu_the_cache_is_small_unless_it_is_set() -> None:
    assert arguments("cpu")["kv_cache_memory_bytes"] == CPU_KV_CACHE_BYTES
    assert arguments("cpu", kv_cache_memory_bytes=1 << 20)["kv_cache_memory_bytes"] == 1 << 20


def test_gguf_files_are_loaded_as_such() -> None:
    found = arguments(gguf=True)

    assert (found["load_format"], found["quantization"]) == ("gguf", "gguf")


def test_adapters_make_room_for_themselves() -> None:
    found = arguments(adapters=(adapter("a", 8), adapter("b", 20)))

    assert found["enable_lora"] is True
    assert (found["max_loras"], found["max_lora_rank"]) == (2, 32)
    set_ = arguments(adapters=(adapter("a", 8),), max_loras=4, max_lora_rank=64)
    assert (set_["max_loras"], set_["max_lora_rank"]) == (4, 64)
    bare = arguments(enable_lora=True, max_lora_rank=8)
    assert (bare["max_loras"], bare["max_lora_rank"]) == (1, 8)
    assert arguments(enable_lora=True)["max_lora_rank"] == 16


def test_a_rank_below_that_of_an_adapter_is_refused_with_both() -> None:
    with pytest.raises(SettingError, match="max_lora_rank is 8, and an adapter has rank 16"):
        arguments(adapters=(adapter("a", 8), adapter("b", 16)), max_lora_rank=8)


@pytest.mark.parametrize(("max_loras", "found"), [(None, 3), (1, 3), (4, 5)])
def test_on_a_cpu_the_last_place_for_an_adapter_stays_empty(
    max_loras: int | None, found: int
) -> None:
    adapters = (adapter("a", 8), adapter("b", 8))
    assert arguments("cpu", adapters=adapters, max_loras=max_loras)["max_loras"] == found


def test_adapters_in_32_bits_are_refused_on_a_gpu() -> None:
    adapters = (adapter("a", 8),)
    with pytest.raises(SettingError, match="dtype is 'float32', and on a GPU vLLM computes"):
        arguments(adapters=adapters, dtype="float32")
    assert arguments("cpu", adapters=adapters, dtype="float32")["enable_lora"] is True
    assert arguments(adapters=adapters, dtype="bfloat16")["enable_lora"] is True
    assert arguments(dtype="float32")["dtype"] == "float32"


def test_adapters_that_are_switched_off_are_refused() -> None:
    with pytest.raises(SettingError, match="enable_lora is false, and the model names 1 adapters"):
        arguments(adapters=(adapter("a", 8),), enable_lora=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block_sise", "has no argument 'block_sise'; did you mean 'block_size'?"),
        ("nothing_like_it", "has no argument 'nothing_like_it'"),
        ("trust_remote_code", "cannot be set: code that comes with models is never run"),
        ("override_generation_config", "cannot be set: write its values into the model's sampling"),
        ("revision", "write it behind the source: owner/name@revision"),
        ("max_num_seqs", "is a setting of its own: write it one level up"),
    ],
)
def test_arguments_that_are_not_for_the_table(name: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        check_engine_args([name], KNOWN, model="qwen")

    assert caught.value.message.startswith("models.qwen.settings.engine_args: ")
    assert message in caught.value.message


def test_other_arguments_are_taken() -> None:
    check_engine_args(["block_size", "compilation_config"], KNOWN, model="qwen")


def test_a_length_over_the_models_is_refused() -> None:
    check_length(8192, 8192, name="qwen")
    with pytest.raises(SettingError, match=r"8,193, and model 'qwen' was made for 8,192 tokens"):
        check_length(8193, 8192, name="qwen")


def test_more_gpus_than_there_are_are_refused_with_the_numbers() -> None:
    settings = VllmSettings(tensor_parallel_size=2, pipeline_parallel_size=3)
    with pytest.raises(SettingError) as caught:
        check_devices(settings, 4, device="cuda")

    assert caught.value.message == (
        "tensor_parallel_size 2 × pipeline_parallel_size 3 × data_parallel_size 1 needs 6 GPUs, and"
        " there are 4 here: lower one of them, or use several machines with"
        " distributed_executor_backend 'ray'"
    )


def test_ray_is_refused_without_gpus() -> None:
    """Seen with vLLM 0.32 on a cluster of Ray 2.60: "current platform cpu does not support ray"."""
    ray = VllmSettings(distributed_executor_backend="ray")
    with pytest.raises(SettingError, match="'ray', and vLLM spreads models over machines with GPU"):
        check_devices(ray, 0, device="cpu")


def test_gpus_of_other_machines_and_cpus_are_not_counted() -> None:
    check_devices(VllmSettings(tensor_parallel_size=2), 2, device="cuda")
    check_devices(VllmSettings(tensor_parallel_size=2), 0, device="cpu")
    ray = VllmSettings(tensor_parallel_size=16, distributed_executor_backend="ray")
    check_devices(ray, 8, device="cuda")
