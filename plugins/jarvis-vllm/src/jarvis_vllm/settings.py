"""Settings of the engine ``vllm``: ``JARVIS_VLLM_<FIELD>`` or ``[models.<name>.settings]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from jarvis_core import setting

DEFAULT_MAX_MODEL_LEN = 4096
LOG_LEVELS = ("debug", "info", "warning", "error")


@frozen(kw_only=True)
class VllmSettings:
    """How vLLM runs a model. None leaves a value to vLLM, which knows model and device."""

    # -- length and batches ------------------------------------------------------------------
    max_model_len: int | None = setting(
        default=None,
        ge=1,
        help="Tokens of prompt and completion; unset takes the model's context window, else "
        f"{DEFAULT_MAX_MODEL_LEN}, and never more than the model was made for",
    )
    max_num_seqs: int | None = setting(
        default=None, ge=1, help="Requests computed in one step at most; more wait"
    )
    max_num_batched_tokens: int | None = setting(
        default=None, ge=1, help="Tokens computed in one step at most"
    )
    enable_prefix_caching: bool | None = setting(
        default=None, help="Keep computed prompts for requests that begin alike"
    )
    enforce_eager: bool = setting(
        default=False, help="No CUDA graphs and no compilation: starts sooner, runs slower"
    )
    seed: int = setting(default=0, ge=0, help="Random numbers of requests that bring no seed")

    # -- memory ------------------------------------------------------------------------------
    gpu_memory_utilization: float = setting(
        default=0.9, ge=0.01, le=1, help="Share of each GPU's memory that vLLM takes"
    )
    kv_cache_memory_bytes: int | None = setting(
        default=None,
        ge=1 << 20,
        help="Bytes of the KV cache, instead of what gpu_memory_utilization leaves; on a CPU "
        "unset means 1 GiB",
    )
    kv_cache_dtype: str = setting(
        default="auto", help="Type of cached keys and values: auto, bfloat16, fp8, fp8_e5m2 …"
    )
    cpu_offload_gb: float = setting(
        default=0.0, ge=0, help="GiB of weights of each GPU that stay in the machine's memory"
    )
    kv_offloading_size: float | None = setting(
        default=None, ge=0, help="GiB of the machine's memory that hold KV cache moved off the GPUs"
    )
    enable_sleep_mode: bool = setting(
        default=False, help="Be able to give GPU memory back while the model sleeps"
    )

    # -- several GPUs ------------------------------------------------------------------------
    tensor_parallel_size: int = setting(default=1, ge=1, help="GPUs that one model is split over")
    pipeline_parallel_size: int = setting(
        default=1, ge=1, help="Stages, each on GPUs of its own, that the layers are split over"
    )
    data_parallel_size: int = setting(
        default=1, ge=1, help="Copies of the model, each on GPUs of its own"
    )
    distributed_executor_backend: str | None = setting(
        default=None, choices=("mp", "ray", "uni"), help="What starts the processes of several GPUs"
    )

    # -- weights -----------------------------------------------------------------------------
    dtype: str = setting(
        default="auto",
        choices=("auto", "half", "float16", "bfloat16", "float", "float32"),
        help="Type that the weights are computed in",
    )
    quantization: str | None = setting(
        default=None,
        help="How the weights are quantized: awq, gptq, fp8, bitsandbytes, gguf …; unset asks the "
        "model's config.json",
    )
    load_format: str = setting(
        default="auto", help="Format of the weights: auto, safetensors, dummy (random numbers) …"
    )
    tokenizer: str | None = setting(
        default=None, help="Directory or hub id of the tokenizer; unset takes the model's"
    )
    runner: str = setting(
        default="auto",
        choices=("auto", "generate", "pooling"),
        help="What the model does: generate text, or make vectors and scores of it (pooling)",
    )
    speculative_config: Mapping[str, Any] | None = setting(
        default=None, help="vLLM's table of speculative decoding: method, num_speculative_tokens …"
    )

    # -- LoRA adapters -----------------------------------------------------------------------
    enable_lora: bool | None = setting(
        default=None, help="Take LoRA adapters; unset means: if the model names some"
    )
    max_loras: int | None = setting(
        default=None, ge=1, help="Adapters in one batch at most; unset means all that it names"
    )
    max_lora_rank: int | None = setting(
        default=None, ge=1, help="Greatest rank of an adapter; unset reads it from their files"
    )

    # -- images ------------------------------------------------------------------------------
    max_image_pixels: int = setting(
        default=50_000_000, ge=1, help="Pixels of all images of a request at most"
    )

    # -- the engine itself -------------------------------------------------------------------
    stream_interval_ms: float = setting(
        default=50.0,
        ge=0,
        le=1000,
        help="Milliseconds that a token may wait for others of its stream, so that they leave "
        "together, while there are so many streams that sending them one by one would slow all",
    )
    engine_args: Mapping[str, Any] = setting(
        factory=dict, help="Any other argument of vLLM's engine, by its name there"
    )
    hang_timeout: float | None = setting(
        default=None,
        ge=1,
        help="Seconds without an answer from vLLM's engine process after which the model is "
        "loaded anew; unset means 60, and 600 on a CPU, where one step may take that long",
    )
    log_level: str = setting(
        default="warning", choices=LOG_LEVELS, help="Least level of vLLM's own log that is shown"
    )

    def context_length(self, *, wanted: int | None, own: int | None) -> int:
        """Tokens of prompt and completion to run a model with.

        Args:
            wanted: Tokens that the operator's context window asks for.
            own: Tokens that the model was made for, None where it does not say.
        """
        if self.max_model_len is not None:
            return self.max_model_len
        length = DEFAULT_MAX_MODEL_LEN if wanted is None else wanted
        return length if own is None else min(length, own)
