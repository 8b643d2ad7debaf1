"""What this package does in each process that vLLM starts; vLLM calls ``prepare_child`` there.

The entry point group is ``vllm.general_plugins``. In a process that no engine host of Jarvis has
started, as one of ``vllm serve``, nothing happens.
"""

from __future__ import annotations

import os

from jarvis_vllm.failure import tell_failures
from jarvis_vllm.orphans import mark_host, watch_parent


def prepare_host(log_level: str) -> None:
    """Set what vLLM reads from the environment when it is imported, here and in its processes.

    Args:
        log_level: Least level of vLLM's log that is shown.
    """
    mark_host()
    os.environ["VLLM_LOGGING_LEVEL"] = log_level.upper()
    os.environ["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"  # a host's standard output goes nowhere
    # A forked process would hold the host's end of the server's socket, and its threads' locks.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def prepare_child() -> None:
    """Begin to watch the parent, and to write down why this process fails."""
    watch_parent()
    tell_failures()
