"""Settings of the llama.cpp engine."""

from __future__ import annotations

from attrs import frozen

from jarvis_core import setting

CACHE_TYPES = ("f16", "bf16", "f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
LOG_LEVELS = ("none", "error", "warning", "info", "debug")


@frozen(kw_only=True)
class LlamaCppSettings:
    """How one model is loaded and run. None leaves a value to the model, machine or llama.cpp."""

    # -- work --------------------------------------------------------------------------------
    max_num_seqs: int = setting(
        default=16, ge=1, le=256, help="Requests decoded at the same time; more wait."
    )
    kv_size: int | None = setting(
        default=None,
        ge=64,
        help="Tokens of the KV cache of all requests together; default: a whole context for each "
        "of max_num_seqs if that takes an eighth of the free memory at most, else 1,024 for each, "
        "at least one whole context, at most what fits in memory.",
    )
    kv_unified: bool | None = setting(
        default=None,
        help="Let all requests share one KV cache, which saves memory; apart, they are computed "
        "faster on a CPU. Default: apart if kv_size has a whole context for each of max_num_seqs.",
    )
    state_store_mib: int | None = setting(
        default=None,
        ge=0,
        help="MiB of memory for conversations that left the KV cache, so that they go on without "
        "being read again; default: a quarter of the free memory, at most 8,192; 0 is none.",
    )
    stream_interval_ms: float = setting(
        default=20.0,
        ge=0,
        le=1000,
        help="Milliseconds in which tokens after the first are sent together; 0 sends each alone.",
    )
    n_batch: int = setting(
        default=512,
        ge=1,
        le=65536,
        env=("JARVIS_N_BATCH",),
        help="Prompt tokens computed in one step at most; long prompts are cut into such chunks.",
    )
    n_ubatch: int | None = setting(
        default=None,
        ge=1,
        le=65536,
        help="Tokens computed at once inside a step; default: all of them.",
    )
    n_threads: int | None = setting(
        default=None,
        ge=1,
        le=512,
        env=("JARVIS_N_THREADS",),
        help="Threads that generate; default: the physical cores this process may use, less one "
        "from eight on.",
    )
    n_threads_batch: int | None = setting(
        default=None, ge=1, le=512, help="Threads that read prompts; default: n_threads."
    )

    adapt_threads: bool = setting(
        default=True,
        help="Compute with one thread for as long as other programs use the cores: threads that "
        "wait for each other are slower then. Without effect where weights are on a GPU.",
    )

    # -- where the weights go ----------------------------------------------------------------
    n_gpu_layers: int = setting(
        default=-1,
        ge=-1,
        env=("JARVIS_N_GPU_LAYERS",),
        help="Layers on the GPU; -1 is all, and without a GPU none.",
    )
    split_mode: str = setting(
        default="layer",
        choices=("none", "layer", "row", "tensor"),
        help="How several GPUs share the model.",
    )
    main_gpu: int = setting(default=0, ge=0, help="The GPU that is used when split_mode is none.")
    tensor_split: tuple[float, ...] = setting(
        default=(), ge=0, help="Share of the model for each GPU; default: by their free memory."
    )
    offload_kqv: bool = setting(default=True, help="Keep the KV cache on the GPU.")
    op_offload: bool = setting(
        default=True, help="Compute large operations of layers that stay on the CPU on the GPU."
    )
    mmap: bool | None = setting(
        default=None, help="Map the file instead of reading it; default: llama.cpp decides."
    )
    mlock: bool = setting(default=False, help="Keep the weights from being swapped out.")
    numa: str = setting(
        default="disabled",
        choices=("disabled", "distribute", "isolate", "numactl", "mirror"),
        help="How threads are placed on a machine with several memory nodes.",
    )
    check_tensors: bool = setting(
        default=False, help="Look for invalid values in the weights while loading; slow."
    )
    check_memory: bool = setting(
        default=True, help="Refuse to load what does not fit in the memory that is free."
    )

    # -- what the model is for ---------------------------------------------------------------
    pooling: str = setting(
        default="model",
        choices=("model", "none", "mean", "cls", "last"),
        help="How the vectors of all tokens become one: a model that pools embeds texts and "
        "generates none; none makes it generate. Rerankers say so in their files.",
    )

    # -- attention and cache -----------------------------------------------------------------
    flash_attn: str = setting(
        default="auto", choices=("auto", "on", "off"), help="Flash attention."
    )
    cache_type_k: str = setting(default="f16", choices=CACHE_TYPES, help="Type of cached keys.")
    cache_type_v: str = setting(
        default="f16",
        choices=CACHE_TYPES,
        help="Type of cached values; a quantized one needs flash attention.",
    )
    swa_full: bool = setting(
        default=True,
        help="Keep whole prompts of models with a sliding window, so that their prefixes can be "
        "reused; false saves memory.",
    )

    # -- position encoding -------------------------------------------------------------------
    rope_scaling: str = setting(
        default="model",
        choices=("model", "none", "linear", "yarn", "longrope"),
        help="How positions beyond the trained context are scaled.",
    )
    rope_freq_base: float | None = setting(
        default=None, ge=0, help="RoPE base frequency; default: the model's."
    )
    rope_freq_scale: float | None = setting(
        default=None, ge=0, help="RoPE frequency factor; default: the model's."
    )
    yarn_orig_ctx: int | None = setting(
        default=None, ge=0, help="Tokens of the context the model was trained with, for YaRN."
    )
    yarn_ext_factor: float | None = setting(default=None, help="YaRN extrapolation mix factor.")
    yarn_attn_factor: float | None = setting(default=None, help="YaRN attention factor.")
    yarn_beta_fast: float | None = setting(default=None, help="YaRN low correction dimension.")
    yarn_beta_slow: float | None = setting(default=None, help="YaRN high correction dimension.")

    # -- log ---------------------------------------------------------------------------------
    log_level: str = setting(
        default="warning",
        choices=LOG_LEVELS,
        env=("LLAMA_LOG_LEVEL",),
        help="Least level of llama.cpp's own log that is shown.",
    )
