"""From settings to the arguments of vLLM's engine; what cannot be is refused before loading."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import fields

from jarvis_core import ModelSpec, SettingError
from jarvis_vllm.adapters import Adapter
from jarvis_vllm.settings import VllmSettings
from jarvis_vllm.source import Source

CPU_KV_CACHE_BYTES = 1 << 30
"""Bytes of the KV cache on a CPU unless settings say otherwise; vLLM would take half the memory."""

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Greatest ranks that vLLM can be prepared for. Source: vllm.config.lora, 0.32."""

_PASSED_ON = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_prefix_caching",
    "enforce_eager",
    "seed",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_cache_dtype",
    "cpu_offload_gb",
    "kv_offloading_size",
    "enable_sleep_mode",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "distributed_executor_backend",
    "dtype",
    "quantization",
    "load_format",
    "runner",
    "speculative_config",
)
"""Settings that are arguments of vLLM's engine under the same name; unset leaves them to vLLM."""

_NOT_ALLOWED = {
    "model": "it is the model's source",
    "model_weights": "it is the model's source",
    "served_model_name": "it is the model's name",
    "tokenizer_mode": "prompts are tokenized by the fast tokenizer of the model",
    "revision": "write it behind the source: owner/name@revision",
    "code_revision": "code that comes with models is never run",
    "trust_remote_code": "code that comes with models is never run",
    "hf_token": "set HF_TOKEN in the environment",
    "skip_tokenizer_init": "constraints need the tokenizer",
    "generation_config": "write from_model = false in the model's sampling table to leave it out",
    "override_generation_config": "write its values into the model's sampling table",
    "structured_outputs_config": "all engines enforce constraints with llguidance",
    "scheduling_policy": "requests have priorities; without any they are first come, first served",
    "enable_log_requests": "prompts are never logged",
    "allowed_media_domains": "nothing is fetched for clients",
    "media_io_kwargs": "images are decoded before vLLM gets them",
    "allowed_local_media_path": "files of this machine are never sent to clients",
}


_FLOAT32 = ("float", "float32")
"""With these vLLM's kernels for adapters fail. Source: vllm.lora.ops.triton_ops, 0.26 and 0.32."""


def check_engine_args(names: Iterable[str], known: Sequence[str], *, model: str) -> None:
    """Refuse names in ``engine_args`` that vLLM does not know or that have another place.

    Args:
        names: The names.
        known: Names of vLLM's arguments.
        model: The model's name, for messages.

    Raises:
        SettingError: It names the nearest known name, or the right place.
    """
    where = f"models.{model}.settings.engine_args"
    own = {field.name for field in fields(VllmSettings)}
    for name in names:
        if name in own:
            raise SettingError(f"{where}: {name!r} is a setting of its own: write it one level up")
        if name in _NOT_ALLOWED:
            raise SettingError(f"{where}: {name!r} cannot be set: {_NOT_ALLOWED[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingError(f"{where}: this vLLM has no argument {name!r}{hint}")


def engine_arguments(
    model: ModelSpec,
    settings: VllmSettings,
    *,
    source: Source,
    adapters: Sequence[Adapter],
    device: str,
) -> dict[str, Any]:
    """Arguments of vLLM's engine, all but ``max_model_len``.

    Args:
        model: What to load.
        settings: How.
        source: Its files.
        adapters: Its LoRA adapters.
        device: Kind of device that vLLM found: ``cuda``, ``cpu`` …
    """
    arguments: dict[str, Any] = {
        "model": source.path,
        "tokenizer": source.tokenizer,
        "served_model_name": model.name,
        "trust_remote_code": False,
        "scheduling_policy": "priority",
        "use_tqdm_on_load": False,  # a bar of progress is no line of a log
        "structured_outputs_config": {"backend": "guidance"},
    }
    for name in _PASSED_ON:
        value = getattr(settings, name)
        if value is not None:
            arguments[name] = dict(value) if isinstance(value, Mapping) else value
    if device == "cpu":
        arguments.setdefault("kv_cache_memory_bytes", CPU_KV_CACHE_BYTES)
    if source.gguf:
        arguments.setdefault("quantization", "gguf")
        arguments["load_format"] = "gguf"
    return arguments | _lora(settings, adapters, device) | dict(settings.engine_args)


def _lora(settings: VllmSettings, adapters: Sequence[Adapter], device: str) -> dict[str, Any]:
    wanted = bool(adapters) if settings.enable_lora is None else settings.enable_lora
    if not wanted:
        if adapters:
            raise SettingError(
                f"enable_lora is false, and the model names {len(adapters)} adapters: "
                "leave it unset, or name none"
            )
        return {}
    rank = max((a.rank for a in adapters), default=1)
    fitting = next((r for r in _LORA_RANKS if r >= rank), rank) if adapters else 16
    at_once = settings.max_loras or max(1, len(adapters))
    if device == "cpu":
        # Requests without an adapter are computed with the one in the last place, where there must
        # be none. Source: vllm.lora.ops.torch_ops.lora_ops, 0.32: no adapter is the index -1.
        at_once = max(at_once, len(adapters)) + 1
    if device == "cuda" and settings.dtype in _FLOAT32:
        raise SettingError(
            f"dtype is {settings.dtype!r}, and on a GPU vLLM computes adapters in 16 bits only: "
            "leave it unset"
        )
    if settings.max_lora_rank is not None and settings.max_lora_rank < rank:
        raise SettingError(
            f"max_lora_rank is {settings.max_lora_rank}, and an adapter has rank {rank}: leave it "
            "unset"
        )
    return {
        "enable_lora": True,
        "max_loras": at_once,
        "max_lora_rank": settings.max_lora_rank or fitting,
    }


def check_length(length: int, own: int, *, name: str) -> None:
    """Refuse a length over the model's.

    Raises:
        SettingError: With both numbers.
    """
    if length > own:
        raise SettingError(
            f"max_model_len is {length:,}, and model {name!r} was made for {own:,} tokens: lower "
            "JARVIS_VLLM_MAX_MODEL_LEN"
        )


def check_devices(settings: VllmSettings, there: int, *, device: str) -> None:
    """Refuse more GPUs than there are on this machine, and machines without any.

    Args:
        settings: How the model is to be run.
        there: GPUs that vLLM may use here.
        device: Kind of device.

    Raises:
        SettingError: With the numbers.
    """
    sizes = (
        settings.tensor_parallel_size,
        settings.pipeline_parallel_size,
        settings.data_parallel_size,
    )
    needed = sizes[0] * sizes[1] * sizes[2]
    ray = settings.distributed_executor_backend == "ray"
    if ray and device == "cpu":
        raise SettingError(
            "distributed_executor_backend is 'ray', and vLLM spreads models over machines with GPUs"
            " only: leave it unset"
        )
    if device == "cpu" or ray or needed <= there:
        return
    raise SettingError(
        f"tensor_parallel_size {sizes[0]} × pipeline_parallel_size {sizes[1]} × data_parallel_size "
        f"{sizes[2]} needs {needed} GPUs, and there {'is' if there == 1 else 'are'} {there} here: "
        "lower one of them, or use several machines with distributed_executor_backend 'ray'"
    )
