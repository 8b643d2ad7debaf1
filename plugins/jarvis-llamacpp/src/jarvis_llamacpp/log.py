"""llama.cpp's own log, as Python logging; and its last words, for error messages."""

from __future__ import annotations

import ctypes
import logging
import re
from collections import deque
from typing import Any

from llama_cpp import llama_cpp as lib

_log = logging.getLogger("jarvis_llamacpp.llama")

# Source: ggml.h, enum ggml_log_level, in llama-cpp-python 0.3.36 (its own Python table is stale).
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
_THRESHOLDS = {
    "none": logging.CRITICAL + 1,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
_NAMES = re.compile(r"^(?:\w+: |error loading model: )+")
_EMPTY = ("failed to load model",)
_MISLEADING = re.compile(
    # Said of the whole KV cache, which several sequences share; the engine warns where it is true.
    r"possible training context overflow"
    # Said of a step that was interrupted, and of no other: the status is GGML_STATUS_ABORTED.
    r"|(?:graph_compute_async failed with error|failed to compute graph, compute status:) 1$"
    r"|failed to decode, ret = 2$"
    # What such a step leaves; of one that failed, an error is told as well.
    r"|removing memory module entries"
)

_kept: list[Any] = []
"""Callbacks that llama.cpp may call: one that is collected would end the process."""


class LlamaLog:
    """Receives llama.cpp's log lines, from any of its threads."""

    def __init__(self) -> None:
        self._problems: deque[str] = deque(maxlen=16)
        self._threshold = logging.WARNING
        self._level = logging.INFO
        self._callback = lib.llama_log_callback(self._receive)

    def install(self, log_level: str) -> None:
        """Take over llama.cpp's log, and forget what went wrong before.

        Args:
            log_level: Least level that is shown; errors are remembered in any case.
        """
        self._threshold = _THRESHOLDS[log_level]
        _log.setLevel(self._threshold)
        self._problems.clear()
        if self._callback not in _kept:
            _kept.append(self._callback)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def reason(self) -> str:
        """What went wrong, in one line, without the names of C functions."""
        lines = dict.fromkeys(_NAMES.sub("", line) for line in self._problems)
        return "; ".join([line for line in lines if line not in _EMPTY][:3]) or "no reason given"

    def _receive(self, level: int, text: bytes, _: Any) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.INFO)
        if self._level < min(self._threshold, logging.ERROR):
            return
        line = text.decode("utf-8", "replace").strip()
        if not line.strip(".") or _MISLEADING.search(line):  # dots are a bar of progress
            return
        if self._level >= logging.ERROR:
            self._problems.append(line)
        if self._level >= self._threshold:
            _log.log(self._level, "%s", line)


LOG = LlamaLog()
"""There is one log in a process."""
