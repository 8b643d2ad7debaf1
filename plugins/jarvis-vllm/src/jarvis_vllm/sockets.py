"""A folder for the sockets through which vLLM's processes speak: vLLM itself never removes one.

It is removed with its engine. That of a host that was killed is removed by the next one: who lives
holds a lock on its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

BASE_PATH = "VLLM_RPC_BASE_PATH"
"""Environment variable with the directory in which vLLM makes its sockets."""

PREFIX = "jarvis-ipc-"

_LONGEST = 107 - len(f"/{PREFIX}12345678/") - 36
"""Bytes of a directory's path from which a socket's is not too long; vLLM's names are UUIDs.

Source: ``sun_path`` in unix(7); vllm.utils.network_utils, 0.32.
"""


class SocketFolder:
    """The folder of this process."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._lock: int | None = None

    def make(self, base: str | None = None) -> None:
        """Make the folder before vLLM is asked for anything; it is always the same.

        Args:
            base: Where, if not in the directory of the variable or the one for temporary files. A
                path that is too long for one more level is left to vLLM.
        """
        base = base or _base()
        _remove_abandoned(base)
        if self._path is None:
            if len(os.fsencode(base)) > _LONGEST:
                return
            self._path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        os.environ[BASE_PATH] = self._path  # vLLM looks at it once in the life of a process
        while self._lock is None:
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            self._lock = _lock(self._path, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder with what is in it; further calls do nothing."""
        if self._path is not None and self._lock is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


SOCKETS = SocketFolder()
"""The one that vLLM is told of."""


def _base() -> str:
    base = os.environ.get(BASE_PATH) or tempfile.gettempdir()
    # The folder of a process that started this one may be removed at any time.
    return os.path.dirname(base) if os.path.basename(base).startswith(PREFIX) else base


def _remove_abandoned(base: str) -> None:
    for path in Path(base).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is in use, or another user's
            lock = _lock(str(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _lock(path: str, how: int) -> int | None:
    """A lock on a folder; None if it is not there, or another host has just removed it.

    Raises:
        OSError: It is another user's, no folder, or in use.
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, how)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except FileNotFoundError:
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None
