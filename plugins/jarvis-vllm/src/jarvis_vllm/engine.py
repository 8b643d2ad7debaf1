"""Loading with vLLM. The only file that imports vllm."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from jarvis_core import ConfigError, ModelSpec
from jarvis_vllm.settings import VllmSettings


async def load_engine(model: ModelSpec, settings: VllmSettings) -> NoReturn:
    """Find out whether vLLM could run here, and say that this version does not load models.

    Raises:
        ConfigError: Always; the message says what stands in the way.
    """
    # Importing vllm takes seconds, in which the host has to answer heartbeats.
    device = await asyncio.to_thread(_device)
    raise ConfigError(
        f"jarvis-vllm {version('jarvis-vllm')} registers the engine 'vllm' and its settings but"
        f" cannot load models yet (vllm itself would run here, on {device}): serve"
        f" {model.name!r} as a GGUF with engine 'llama_cpp', or wait for the next version"
    )


def _device() -> str:
    """The kind of device that vLLM would run on: ``cuda``, ``rocm``, ``cpu`` …

    Raises:
        ConfigError: vllm cannot be imported, or finds no device.
    """
    try:
        device = str(import_module("vllm.platforms").current_platform.device_type)
    except Exception as error:  # a broken CUDA or torch shows as any exception at import
        reason = str(error).strip().partition("\n")[0] or "no message"
        raise ConfigError(
            f"vllm cannot be imported: {type(error).__name__}: {reason}; install it into the"
            " Python that runs this model: pip install jarvis-vllm"
        ) from error
    if not device:
        raise ConfigError(
            "vllm finds no device to run on: it needs an NVIDIA GPU whose driver works (look at"
            " nvidia-smi), or a build of vllm for this machine; engine 'llama_cpp' runs on CPUs"
        )
    return device
