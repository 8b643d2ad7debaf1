"""What is set in the process before llama.cpp is imported."""

from __future__ import annotations

import os
import resource


def prepare_process() -> None:
    """Let a crash of llama.cpp end the process at once: no debugger, no core file."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
