"""Loading a model with vLLM."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import frozen

from jarvis_core import (
    Capabilities,
    ConfigError,
    Engine,
    InsufficientMemory,
    ModelInfo,
    ModelSourceError,
    ModelSpec,
    SettingError,
)
from jarvis_vllm.adapters import Adapter, find_adapters
from jarvis_vllm.arguments import (
    check_devices,
    check_engine_args,
    check_length,
    engine_arguments,
)
from jarvis_vllm.failure import first_failure, one_line
from jarvis_vllm.installation import check_installation
from jarvis_vllm.processes import prepare_host
from jarvis_vllm.recommended import recommended_sampling
from jarvis_vllm.settings import VllmSettings
from jarvis_vllm.sockets import SOCKETS
from jarvis_vllm.source import Source, find_source
from jarvis_vllm.stats import Counters
from jarvis_vllm.texts import Texts, load_texts

if TYPE_CHECKING:
    from jarvis_vllm.images import ImageProcessor

_log = logging.getLogger(__name__)

_OUT_OF_MEMORY = re.compile(
    r"out of memory|KV cache is needed|No available memory|Free memory on device|larger than the "
    r"available KV cache|Not enough memory",
    re.IGNORECASE,
)
_GIB = 1 << 30

HANG_TIMEOUTS = {"cpu": 600.0}
"""Seconds by kind of device; 60 where it is not named."""


@frozen(kw_only=True)
class _Plan:
    """What is known before anything large is loaded.

    Attributes:
        source: The model's files.
        adapters: Its adapters.
        arguments: Arguments of vLLM's engine.
        device: Kind of device.
        context_length: Tokens of prompt and completion.
        sampling: What the model's publisher recommends, by the names of sampling params.
    """

    source: Source
    adapters: tuple[Adapter, ...]
    arguments: Mapping[str, Any]
    device: str
    context_length: int
    sampling: Mapping[str, Any]


async def load_engine(
    model: ModelSpec, settings: VllmSettings, capabilities: Capabilities
) -> Engine:
    """Load a model; the event loop stays free meanwhile.

    Args:
        model: What to load.
        settings: How.
        capabilities: What the engine can do at most.

    Raises:
        ConfigError: vLLM cannot run here, or not with these settings.
        InsufficientMemory: The model does not fit.
        ModelSourceError: Its files are missing, damaged, or not what vLLM loads.
    """
    loop = asyncio.get_running_loop()
    # Threads of its own: a host that is told to end does not wait for them.
    threads = ThreadPoolExecutor(2, thread_name_prefix="vllm-load")
    try:
        plan = await loop.run_in_executor(threads, _prepare, model, settings)
        counters = Counters()
        reading = loop.run_in_executor(threads, load_texts, plan.source, plan.context_length)
        llm = await loop.run_in_executor(threads, _build, model, plan, counters)
        try:
            return await _engine(model, settings, capabilities, plan, llm, await reading, counters)
        except BaseException:
            await loop.run_in_executor(threads, llm.shutdown)
            raise
    except BaseException:
        SOCKETS.remove()
        raise
    finally:
        threads.shutdown(wait=False)


def _prepare(model: ModelSpec, settings: VllmSettings) -> _Plan:
    prepare_host(settings.log_level)
    device = check_installation()
    source = find_source(model, settings, device=device)
    adapters = find_adapters(model.adapters)
    backend = import_module("jarvis_vllm.backend")
    check_engine_args(settings.engine_args, backend.argument_names(), model=model.name)
    check_devices(settings, backend.device_count(), device=device)
    if device == "cpu" and settings.enforce_eager:
        # vLLM still compiles parts of its sampler, at the first request that needs them, in which
        # the engine stands still for half a minute. Source: vllm.v1.sample.ops.logprobs, 0.32.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    arguments = engine_arguments(model, settings, source=source, adapters=adapters, device=device)
    try:
        own = backend.own_length(arguments)
    except Exception as error:  # of pydantic, transformers, vLLM itself: whatever it asks
        raise SettingError(
            f"vLLM refuses model {model.name!r} with these settings: {one_line(error)}"
        ) from error
    length = settings.context_length(wanted=model.context_length, own=own)
    check_length(length, own, name=model.name)
    if device == "cuda":
        _check_gpu_memory(settings, backend)
    return _Plan(
        source=source,
        adapters=adapters,
        arguments={**arguments, "max_model_len": length},
        device=device,
        context_length=length,
        sampling=recommended_sampling(source),
    )


def _check_gpu_memory(settings: VllmSettings, backend: Any) -> None:
    """Refuse to take more of a GPU than is free.

    Raises:
        InsufficientMemory: With the numbers.
    """
    if settings.kv_cache_memory_bytes is not None:
        return
    for device in range(settings.tensor_parallel_size * settings.pipeline_parallel_size):
        try:
            free, total = backend.free_memory(device)
        except OSError as error:
            _log.warning("the memory of GPU %d is not known: %s", device, error)
            return
        wanted = settings.gpu_memory_utilization * total
        if wanted > free:
            raise InsufficientMemory(
                f"gpu_memory_utilization {settings.gpu_memory_utilization:g} asks for "
                f"{wanted / _GIB:.1f} GiB of GPU {device}, of which {free / _GIB:.1f} GiB of "
                f"{total / _GIB:.1f} GiB are free: lower JARVIS_VLLM_GPU_MEMORY_UTILIZATION, or "
                "end what else uses the GPU"
            )


def _build(model: ModelSpec, plan: _Plan, counters: Counters) -> Any:
    backend = import_module("jarvis_vllm.backend")
    with first_failure() as failure:
        try:
            return backend.build(plan.arguments, counters.step)
        except Exception as error:  # whatever vLLM, torch and the driver raise
            reason = failure.reason() or one_line(error)
            raise _load_failure(model, reason) from error


def _load_failure(model: ModelSpec, reason: str) -> ConfigError | InsufficientMemory:
    first = reason.partition("\n")[0][:500]
    if _OUT_OF_MEMORY.search(reason):
        return InsufficientMemory(
            f"model {model.name!r} does not fit: {first}; lower JARVIS_VLLM_MAX_MODEL_LEN or "
            "JARVIS_VLLM_MAX_NUM_SEQS, raise JARVIS_VLLM_GPU_MEMORY_UTILIZATION, use more GPUs "
            "(JARVIS_VLLM_TENSOR_PARALLEL_SIZE) or a quantized model"
        )
    return ModelSourceError(f"vLLM cannot load {model.source}: {first}")


async def _engine(
    model: ModelSpec,
    settings: VllmSettings,
    capabilities: Capabilities,
    plan: _Plan,
    llm: Any,
    texts: Texts,
    counters: Counters,
) -> Engine:
    from jarvis_vllm.generation import GeneratingEngine
    from jarvis_vllm.images import image_processor
    from jarvis_vllm.pooling import PoolingEngine, pooling_tasks

    vocabulary = texts.vocabulary
    supported = await llm.get_supported_tasks()
    pooling = pooling_tasks(supported)
    cache = llm.vllm_config.cache_config
    counters.kv_total = (cache.num_gpu_blocks or 0) * (cache.block_size or 0)
    generates = "generate" in supported
    tasks = {"generate", "prefix_cache_reset"} if generates else set(pooling)
    if settings.enable_sleep_mode:
        tasks.add("sleep")
    if not tasks & capabilities.tasks:
        raise ModelSourceError(f"{model.source}: it neither generates text nor makes vectors of it")
    images = None
    if generates:
        images = image_processor(llm, vocabulary.controls, max_pixels=settings.max_image_pixels)
    able = Capabilities(
        tasks=frozenset(tasks),
        parameters=capabilities.parameters if generates else frozenset(),
        constraints=capabilities.constraints if generates else frozenset(),
        media=frozenset() if images is None else capabilities.media,
    )
    common: dict[str, Any] = {
        "info": _info(model, plan, llm, texts, images, able),
        "llm": llm,
        "tokenizer": texts.tokenizer,
        "counters": counters,
        "hang_timeout": settings.hang_timeout or HANG_TIMEOUTS.get(plan.device, 60.0),
    }
    if not generates:
        return PoolingEngine(tasks=pooling, **common)
    requests = await _load_adapters(llm, plan.adapters)
    # A model may have more logits than its tokenizer has tokens: those stand for no text.
    padding = max(0, llm.model_config.get_vocab_size() - vocabulary.size)
    pieces = vocabulary.pieces + (b"",) * padding
    return GeneratingEngine(
        pieces=pieces,
        controls=vocabulary.controls,
        adapters=requests,
        stream_interval=settings.stream_interval_ms / 1e3,
        images=images,
        **common,
    )


def _info(
    model: ModelSpec,
    plan: _Plan,
    llm: Any,
    texts: Texts,
    images: ImageProcessor | None,
    capabilities: Capabilities,
) -> ModelInfo:
    """The loaded model as the core sees it."""
    from jarvis_vllm import backend
    from jarvis_vllm.images import KIND

    vocabulary = texts.vocabulary
    return ModelInfo(
        name=model.name,
        source=model.source,
        engine="vllm",
        context_length=plan.context_length,
        capabilities=capabilities,
        backend=f"vllm {backend.version()}",
        architecture=plan.source.model_type,
        chat_template=texts.chat_template,
        bos_token=vocabulary.bos_token,
        eos_token=vocabulary.eos_token,
        control_tokens=tuple(vocabulary.controls),
        control_token_ids=tuple(vocabulary.controls.values()),
        placeholders={} if images is None else {KIND: images.placeholder},
        vocab_size=vocabulary.size,
        adapters=tuple(a.name for a in plan.adapters),
        max_num_seqs=llm.vllm_config.scheduler_config.max_num_seqs,
        sampling=plan.sampling,
    )


async def _load_adapters(llm: Any, adapters: tuple[Adapter, ...]) -> dict[str, Any]:
    """vLLM's ``LoRARequest`` of each adapter by its name.

    Each is loaded once: one that does not fit the model would end vLLM's engine for everyone when
    the first request asks for it.
    """
    from jarvis_vllm import backend

    requests = {}
    for number, adapter in enumerate(adapters, start=1):
        request = backend.LoRARequest(adapter.name, number, adapter.path)
        try:
            await llm.add_lora(request)
        except Exception as error:  # of torch and vLLM, whatever does not fit
            raise ModelSourceError(
                f"adapter {adapter.name!r} ({adapter.path}): vLLM cannot load it: {one_line(error)}"
            ) from error
        requests[adapter.name] = request
    return requests
