"""All that this package takes from vLLM, and the versions of it that were really run.

The only module that imports vllm, and only loading imports it: that takes seconds. Names that moved
or changed between the supported versions are dealt with here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import vllm
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics_core import Metric
from vllm import PoolingParams, SamplingParams
from vllm import exceptions as vllm_exceptions
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.envs import enable_envs_cache
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.model_executor.model_loader import get_model_cls
from vllm.platforms import current_platform
from vllm.renderers import TokenizeParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import PrometheusStatLogger

from jarvis_vllm.histogram import observe_each

__all__ = [
    "CLIENT_ERRORS",
    "OVERLOAD_ERRORS",
    "AsyncEngineArgs",
    "AsyncLLM",
    "EngineDeadError",
    "LoRARequest",
    "PoolingParams",
    "RequestOutputKind",
    "SamplingParams",
    "StructuredOutputsParams",
    "argument_names",
    "build",
    "device_count",
    "free_memory",
    "image_input",
    "image_limit",
    "image_placeholder",
    "metrics_text",
    "own_length",
    "send_together",
    "tokens_input",
]

# Since vLLM 0.27 what a client got wrong has a base class; before, it is a ValueError.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    (vllm_exceptions.VLLMClientError,)
    if hasattr(vllm_exceptions, "VLLMClientError")
    else (ValueError,)
)
"""What vLLM raises for a request that it refuses."""

OVERLOAD_ERRORS: tuple[type[Exception], ...] = (
    (vllm_exceptions.GracefulHTTPError,) if hasattr(vllm_exceptions, "GracefulHTTPError") else ()
)
"""What vLLM raises when limits of its own, set in ``engine_args``, are reached."""

_INDEX_LABEL = re.compile(r'(?<=[{,])engine="')
_MODEL_LABEL = re.compile(r'(?<=[{,])model_name="(?:[^"\\]|\\.)*",?')


def argument_names() -> tuple[str, ...]:
    """Names of the arguments of vLLM's engine."""
    return tuple(n for n in AsyncEngineArgs.__dataclass_fields__ if not n.startswith("_"))


def device_count() -> int:
    """GPUs that vLLM may use here."""
    return int(current_platform.device_count())


def free_memory(device: int) -> tuple[int, int]:
    """Bytes free and bytes in all of a GPU, asked of the driver: no CUDA context is made here.

    Raises:
        OSError: The driver does not say.
    """
    from vllm.third_party import pynvml

    try:
        pynvml.nvmlInit()
        try:
            physical = current_platform.device_id_to_physical_device_id(device)
            memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(physical))
            return int(memory.free), int(memory.total)
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, AttributeError, RuntimeError, ValueError) as error:
        raise OSError(str(error)) from error


def own_length(arguments: Mapping[str, Any]) -> int:
    """Tokens of prompt and completion that a model was made for.

    Args:
        arguments: Arguments of the engine without ``max_model_len``.
    """
    return int(AsyncEngineArgs(**arguments).create_model_config().max_model_len)


def build(arguments: Mapping[str, Any], on_step: Callable[[int, Any], None]) -> AsyncLLM:
    """Start vLLM's engine; blocks until the model is loaded.

    Args:
        arguments: Arguments of the engine.
        on_step: Called on the event loop with the number of an engine process and the statistics
            of its scheduler, or None, whenever that process has sent something.
    """

    class Recorder(PrometheusStatLogger):  # type: ignore[misc]
        """vLLM's own metrics; it takes the place of the logger that vLLM would make."""

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            on_step(engine_idx, scheduler_stats)
            gaps: list[float] = []
            if iteration_stats is not None:
                # vLLM would observe them one by one: with hundreds of streams an eighth of all
                # that this process does.
                gaps = iteration_stats.inter_token_latencies_iter
                iteration_stats.inter_token_latencies_iter = []
            super().record(scheduler_stats, iteration_stats, mm_cache_stats, engine_idx)
            observe_each(self.histogram_inter_token_latency[engine_idx], gaps)

    # As this user vLLM takes the large batches of its own server on large GPUs.
    usage = UsageContext.OPENAI_API_SERVER
    config = AsyncEngineArgs(**arguments).create_engine_config(usage)
    use_own_scheduler(config.scheduler_config)
    llm = AsyncLLM.from_vllm_config(config, usage_context=usage, stat_loggers=[Recorder])
    # vLLM looks into the environment with every output; in its own processes it stops to when they
    # are ready.
    enable_envs_cache()
    return llm


def use_own_scheduler(config: Any) -> None:
    """Have vLLM use its scheduler with ``LoneFirst`` before it, unless another one is asked for."""
    if config.scheduler_cls is None:
        name = "AsyncLoneFirst" if config.async_scheduling else "SyncLoneFirst"
        config.scheduler_cls = f"jarvis_vllm.schedulers.{name}"


def send_together(llm: AsyncLLM, tokens: int) -> None:
    """Let requests that are added from now on get so many tokens at a time.

    Their first token and their end come at once all the same. It is what vLLM's argument
    ``stream_interval`` sets once for all; that stays the least.
    """
    least = llm.vllm_config.scheduler_config.stream_interval
    llm.output_processor.stream_interval = max(least, tokens)


def image_limit(llm: AsyncLLM) -> int:
    """Images in a prompt at most; 0 where the model takes none."""
    processor = llm.renderer.mm_processor
    return 0 if processor is None else int(processor.info.allowed_mm_limits.get("image", 0))


def image_placeholder(llm: AsyncLLM) -> str | None:
    """Text that stands for an image in prompts; None where there is none, or each has its own."""
    cls = get_model_cls(llm.model_config)
    texts = {cls.get_placeholder_str("image", number) for number in (1, 2)}
    return texts.pop() if len(texts) == 1 else None


async def image_input(
    llm: AsyncLLM,
    ids: list[int],
    images: Sequence[Any],
    *,
    digests: Sequence[str],
    cache_salt: str | None,
) -> Any:
    """What ``add_request`` takes for a prompt with images; made in vLLM's own thread for it.

    Its cache of processed images is passed by: that counts on each image to reach the engine
    process, in order, and a request may be refused or given up before. Another one, for this
    process only, is used instead.

    Args:
        llm: The engine.
        ids: Token ids of the prompt, with a placeholder for each image.
        images: Pillow's images, in order.
        digests: By which each is known.
        cache_salt: Prefix reuse stays among requests of one salt.

    Raises:
        ValueError: The model's image processor refuses an image.
    """
    prompt: dict[str, Any] = {
        "prompt_token_ids": ids,
        "multi_modal_data": {"image": list(images)},
        "multi_modal_uuids": {"image": list(digests)},
    }
    if cache_salt is not None:
        prompt["cache_salt"] = cache_salt
    (found,) = await llm.renderer.render_cmpl_async(
        [prompt], TokenizeParams(max_total_tokens=None), skip_mm_cache=True
    )
    return found


class _Own:
    """The part of the registry that is vLLM's."""

    def collect(self) -> Sequence[Metric]:
        return [family for family in REGISTRY.collect() if family.name.startswith("vllm:")]


def metrics_text() -> str:
    """vLLM's own metrics as Prometheus text: ``vllm_…``, its engine process as label ``rank``."""
    text = generate_latest(_Own()).decode().replace("vllm:", "vllm_")
    return _MODEL_LABEL.sub("", _INDEX_LABEL.sub('rank="', text))


def version() -> str:
    """vLLM's version."""
    return str(vllm.__version__)
