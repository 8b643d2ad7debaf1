"""Ends vLLM's processes when the engine host that began them is gone.

vLLM calls ``watch_parent`` in each process that it starts, through the entry point group
``vllm.general_plugins``. The engine host is the leader of their process group; a server that lives
ends the group with its host, but a host and a server may be killed together, by the kernel for want
of memory. Without this, vLLM's EngineCore would go on holding the GPU.
"""

from __future__ import annotations

import os
import signal
import threading

HOST_PID = "JARVIS_VLLM_HOST_PID"
"""Environment variable with the process id of the engine host, for its descendants."""

_INTERVAL = 0.5


def mark_host() -> None:
    """Let descendants of this process end with it."""
    os.environ[HOST_PID] = str(os.getpid())


def in_child() -> bool:
    """Whether this is a process that an engine host has started."""
    return os.environ.get(HOST_PID, str(os.getpid())) != str(os.getpid())


def watch_parent() -> None:
    """Begin to watch, in a process that an engine host has started."""
    parent, host = os.getppid(), int(os.environ[HOST_PID])
    threading.Thread(target=_watch, args=(parent, host), name="orphans", daemon=True).start()


def _watch(parent: int, host: int) -> None:
    never = threading.Event()
    while os.getppid() == parent and _lives(host):
        never.wait(_INTERVAL)
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
