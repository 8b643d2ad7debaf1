"""What this package does in each process that vLLM starts; vLLM calls ``prepare_child`` there.

The entry point group is ``vllm.general_plugins``. In a process that no engine host of Jarvis has
started, as one of ``vllm serve``, nothing happens.
"""

from __future__ import annotations

import logging
import os

from jarvis_core import LevelPrefix
from jarvis_vllm.failure import tell_failures
from jarvis_vllm.orphans import in_child, mark_host, watch_parent
from jarvis_vllm.sockets import SOCKETS


def prepare_host(log_level: str) -> None:
    """Set what vLLM reads from the environment when it is imported, here and in its processes.

    Args:
        log_level: Least level of vLLM's log that is shown.
    """
    mark_host()
    SOCKETS.make()
    # vLLM's own set-up of its log tells no level to the server. It refuses a file of settings for
    # a log that it does not set up. Source: vllm.logger, 0.26 and 0.32.
    os.environ["VLLM_CONFIGURE_LOGGING"] = "0"
    os.environ.pop("VLLM_LOGGING_CONFIG_PATH", None)
    os.environ["VLLM_LOGGING_LEVEL"] = log_level.upper()
    logging.getLogger("vllm").setLevel(log_level.upper())
    # A forked process would hold the host's end of the server's socket, and its threads' locks.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def prepare_child() -> None:
    """Begin to watch the parent, to log for the server, and to tell why this process fails."""
    if in_child():
        watch_parent()
        _log_for_server()
    tell_failures()


def _log_for_server() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LevelPrefix("%(processName)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("vllm").setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"))
    logging.getLogger("vllm.config.scheduler").addFilter(_is_no_news)


def _is_no_news(record: logging.LogRecord) -> bool:
    """False for vLLM's warning that its scheduler has a class of ours."""
    return "custom scheduler class" not in record.getMessage()
