"""Threads with a deep stack, for tokenizers that recurse over every character of a long word.

Many of llama.cpp's tokenizers split text with ``std::regex``, whose implementation in libstdc++
recurses once or more for each character of a match: 60,000 letters without a break end a process
with the usual stack of 8 MB.

Source: unicode.cpp, unicode_regex_split_stl, in llama-cpp-python 0.3.36; measured there: less than
335 bytes of stack a character.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

BYTES_PER_CHARACTER = 512
LONGEST_WORD = 1_000_000
"""Characters of a word at most: more would need more stack than a thread should have."""

_LEAST_BYTES = 16 << 20


def run_with_stack(work: Callable[[], T], characters: int) -> T:
    """Do work on a thread of its own, whose stack is given back afterwards.

    Args:
        work: What to do.
        characters: Characters that it may recurse over.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    needed = _LEAST_BYTES + min(characters, LONGEST_WORD) * BYTES_PER_CHARACTER
    thread = threading.Thread(target=run, name="tokenizer", daemon=True)
    before = threading.stack_size(needed)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return future.result()
