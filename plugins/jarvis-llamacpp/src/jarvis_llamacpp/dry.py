"""DRY: makes a token less likely the longer the repetition is that it would go on with.

Source: https://github.com/oobabooga/text-generation-webui/pull/5677; defaults and limits as in
llama.cpp, src/llama-sampler.cpp, llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jarvis_llamacpp.filters import Row
from jarvis_llamacpp.params import DryParams

_MOST = 1e9
"""Logits that a penalty takes at most: more would make a token impossible."""

_LONGEST = 1000
"""Tokens of a repetition that are counted at most."""


class DryPenalty:
    """Looks in prompt and text for what the end of the text repeats.

    Args:
        params: Its parameters.
        prompt: Token ids of the prompt.
        pieces: Bytes of each token of the vocabulary.
    """

    def __init__(self, params: DryParams, prompt: Sequence[int], pieces: Sequence[bytes]) -> None:
        self._params = params
        self._pieces = pieces
        self._breakers = [breaker.encode() for breaker in params.sequence_breakers]
        self._tail_bytes = max(map(len, self._breakers), default=1) - 1
        self._most_growth = math.inf
        if params.base > 1:
            self._most_growth = math.log(_MOST) / math.log(params.base)
        self._longest = int(min(_LONGEST, params.allowed_length + self._most_growth + 1))
        self._tokens = np.empty(len(prompt) + 256, np.int32)
        self._count = len(prompt)
        self._tokens[: self._count] = prompt
        self._tail = b""
        self._unbroken = 0
        for token in prompt[-self._longest - self._tail_bytes :]:
            self._look_for_breakers(token)

    def add(self, token: int) -> None:
        """Note a token that was chosen."""
        if self._count == len(self._tokens):
            self._tokens = np.resize(self._tokens, 2 * self._count)
        self._tokens[self._count] = token
        self._count += 1
        self._look_for_breakers(token)

    def apply(self, row: Row) -> None:
        """Change logits, float32, shape ``(vocabulary,)``."""
        params = self._params
        window = self._tokens[: self._count]
        if params.penalty_last_n >= 0:
            window = window[max(0, self._count - params.penalty_last_n) :]
        longest = min(self._unbroken, self._longest)
        if longest < max(1, params.allowed_length) or len(window) < 2:
            return
        ends = np.flatnonzero(window[:-1] == window[-1])
        lengths = _matches(window, ends, longest)
        long_enough = lengths >= params.allowed_length
        followers, lengths = window[ends[long_enough] + 1], lengths[long_enough]
        order = np.argsort(lengths, kind="stable")
        # Where several matches have one follower, the longest comes last and counts.
        found = dict(zip(followers[order].tolist(), lengths[order].tolist(), strict=True))
        for token, length in found.items():
            growth = min(length - params.allowed_length, self._most_growth)
            row[token] -= min(_MOST, params.multiplier * params.base**growth)

    def _look_for_breakers(self, token: int) -> None:
        """Count tokens since a breaker ended."""
        piece = self._pieces[token]
        text = self._tail + piece
        before = len(self._tail)
        broken = any(text.find(b, max(0, before - len(b) + 1)) >= 0 for b in self._breakers)
        self._unbroken = 0 if broken else self._unbroken + 1
        self._tail = text[len(text) - self._tail_bytes :] if self._tail_bytes else b""


def _matches(
    window: npt.NDArray[np.int32], ends: npt.NDArray[np.intp], longest: int
) -> npt.NDArray[np.int32]:
    """How many tokens before and at each end are those at the end of the window.

    Args:
        window: Token ids.
        ends: Places where the last token stands too.
        longest: Tokens counted at most, at least 1.
    """
    lengths = np.ones(len(ends), np.int32)
    alive = np.arange(len(ends))
    for length in range(1, min(longest, len(window) - 1)):
        alive = alive[ends[alive] >= length]
        alive = alive[window[ends[alive] - length] == window[-1 - length]]
        if not len(alive):
            break
        lengths[alive] += 1
    return lengths
