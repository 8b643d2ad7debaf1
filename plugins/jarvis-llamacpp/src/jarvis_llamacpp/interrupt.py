"""A flag that stops llama.cpp in the middle of a step, from any thread and without Python."""

from __future__ import annotations

import ctypes
from typing import Any

from llama_cpp import llama_cpp as lib


class Interrupt:
    """Makes ``llama_decode`` return early, with code 2, while it is set.

    llama.cpp asks a callback after each operation whether to go on. One written in Python would
    take the interpreter's lock thousands of times in a step, so it is libc's ``strlen``, whose
    argument is the flag: an empty string says no.
    """

    def __init__(self, context: Any) -> None:
        """Install it in a context, which must not outlive it."""
        self._flag = ctypes.create_string_buffer(2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        assert strlen is not None
        self._callback = lib.ggml_abort_callback(strlen)
        lib.llama_set_abort_callback(context, self._callback, ctypes.addressof(self._flag))

    def set(self) -> None:
        """Stop the step that is computed, or the next one."""
        self._flag[0] = b"\1"

    def clear(self) -> None:
        """Let steps run."""
        self._flag[0] = b"\0"
