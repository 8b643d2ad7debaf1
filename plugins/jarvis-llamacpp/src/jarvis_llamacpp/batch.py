"""The tokens of one step, in arrays that llama.cpp reads in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Batch:
    """Tokens with their places, filled anew for each step.

    Attributes:
        token: Token ids, int32, shape ``(capacity,)``.
        pos: Positions in their sequences, int32, shape ``(capacity,)``.
        seq: Sequence ids, int32, shape ``(capacity,)``.
        wanted: 1 where logits are wanted, int8, shape ``(capacity,)``.
        seq_count: Ones: each token belongs to one sequence; int32, shape ``(capacity,)``.
        seq_address: Address of each entry of ``seq``, uint64, shape ``(capacity,)``.
        size: Tokens filled in.
        rows: Rows of logits that the step will give, in the order of the tokens.
    """

    def __init__(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens."""
        self.capacity = capacity
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.seq = np.zeros(capacity, np.int32)
        self.wanted = np.zeros(capacity, np.int8)
        self.seq_count = np.ones(capacity, np.int32)
        offsets = np.arange(capacity, dtype=np.uint64) * np.uint64(self.seq.itemsize)
        self.seq_address = np.uint64(self.seq.ctypes.data) + offsets
        self._ramp = np.arange(capacity, dtype=np.int32)
        self.size = 0
        self.rows = 0

    def clear(self) -> None:
        """Begin a new step."""
        self.size = 0
        self.rows = 0

    def add_chunk(
        self,
        seq: int,
        start: int,
        tokens: npt.NDArray[np.int32],
        *,
        last_wanted: bool,
        all_wanted: bool = False,
    ) -> None:
        """Add neighbouring tokens of one sequence.

        Args:
            seq: Sequence id.
            start: Position of the first.
            tokens: Token ids, int32, one-dimensional.
            last_wanted: Whether the logits after the last are wanted.
            all_wanted: Whether those after each of them are.
        """
        begin, end = self.size, self.size + len(tokens)
        self._check(end)
        self.token[begin:end] = tokens
        np.add(self._ramp[: len(tokens)], start, out=self.pos[begin:end])
        self.seq[begin:end] = seq
        self.wanted[begin:end] = all_wanted
        if all_wanted:
            self.rows += len(tokens)
        elif last_wanted:
            self.wanted[end - 1] = 1
            self.rows += 1
        self.size = end

    def add_each(self, seqs: Sequence[int], starts: Sequence[int], tokens: Sequence[int]) -> None:
        """Add one token for each of several sequences, all with logits wanted."""
        begin, end = self.size, self.size + len(seqs)
        self._check(end)
        self.token[begin:end] = tokens
        self.pos[begin:end] = starts
        self.seq[begin:end] = seqs
        self.wanted[begin:end] = 1
        self.rows += len(seqs)
        self.size = end

    def _check(self, end: int) -> None:
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit in a batch of {self.capacity}")
