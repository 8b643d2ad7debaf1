"""Whether vLLM runs here: its version, and a device to run on."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import version

from jarvis_core import ConfigError

OLDEST = (0, 26)
NEWEST = (0, 32)
"""Versions of vLLM with which this package was run: the first on GPUs, the last on CPUs."""


def check_installation() -> str:
    """The kind of device that vLLM runs on here: ``cuda``, ``rocm``, ``cpu`` …

    Raises:
        ConfigError: vLLM cannot be imported, has another version, or finds no device.
    """
    try:
        found = str(import_module("vllm").__version__)
        check_version(found)
        device = str(import_module("vllm.platforms").current_platform.device_type)
    except ConfigError:
        raise
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


def check_version(found: str) -> None:
    """Refuse a version that was not tried.

    Raises:
        ConfigError: It names the versions that were.
    """
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        return
    oldest, newest = (".".join(map(str, v)) for v in (OLDEST, NEWEST))
    raise ConfigError(
        f"jarvis-vllm {version('jarvis-vllm')} works with vllm {oldest} to {newest}, and {found} is"
        f" installed: pip install 'vllm>={oldest},<{NEWEST[0]}.{NEWEST[1] + 1}', or a newer"
        " jarvis-vllm"
    )
