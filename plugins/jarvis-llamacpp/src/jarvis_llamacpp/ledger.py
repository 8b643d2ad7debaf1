"""Counts the cells of the KV cache: which sequence holds how many, and which they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class KvLedger:
    """Mirrors how llama.cpp's KV cache is filled.

    Each token of a sequence takes a cell; in a unified cache sequences that were copied share
    cells. A sequence is live while a request runs on it, otherwise its tokens are only kept for
    reuse.

    Attributes:
        unified: Whether sequences can share cells. If not, there are cells for all at any time.
        total: Cells there are.
        free: Cells that no sequence holds.
        live: Cells that some live sequence holds.
    """

    def __init__(self, sequences: int, cells: int, longest: int, *, unified: bool = True) -> None:
        """Make an empty ledger.

        Args:
            sequences: Sequence ids are below this.
            cells: Cells there are.
            longest: Cells that one sequence may hold.
            unified: Whether sequences can share cells.
        """
        self.unified = unified
        self.total = cells
        self.free = cells
        self.live = 0
        # Which cells they are matters only where they can be shared.
        tracked = cells if unified else 0
        self._table = np.zeros((sequences, longest if unified else 0), np.int32)
        self._lengths = [0] * sequences
        self._holders = np.zeros(tracked, np.int16)
        self._live_holders = np.zeros(tracked, np.int16)
        self._unused = list(range(tracked))
        self._is_live = [False] * sequences

    @property
    def idle(self) -> int:
        """Cells that are held, and by no live sequence."""
        return self.total - self.free - self.live

    def length(self, seq: int) -> int:
        """Tokens that a sequence holds."""
        return self._lengths[seq]

    def extend(self, seq: int, count: int) -> None:
        """Give a sequence new cells."""
        if not self.unified:
            self._take(count)
            self._lengths[seq] += count
            self.live += count if self._is_live[seq] else 0
            return
        cells = self._new_cells(count)
        length = self._lengths[seq]
        self._table[seq, length : length + count] = cells
        self._lengths[seq] = length + count
        self._holders[cells] = 1
        if self._is_live[seq]:
            self._live_holders[cells] = 1
            self.live += count

    def extend_each(self, seqs: Sequence[int]) -> None:
        """Give each of several live sequences one new cell."""
        if not self.unified:
            self._take(len(seqs))
            for seq in seqs:
                self._lengths[seq] += 1
            self.live += len(seqs)
            return
        # One by one: for a few cells numpy's fixed cost is many times that of this loop.
        table, lengths = self._table, self._lengths
        for seq, cell in zip(seqs, self._new_cells(len(seqs)), strict=True):
            length = lengths[seq]
            table[seq, length] = cell
            lengths[seq] = length + 1
            self._holders[cell] = 1
            self._live_holders[cell] = 1
        self.live += len(seqs)

    def share(self, source: int, target: int, count: int) -> None:
        """Let an empty sequence hold another's first cells too, or as many of its own."""
        if not self.unified:
            self.extend(target, count)
            return
        cells = self._table[source, :count]
        self._table[target, :count] = cells
        self._lengths[target] = count
        self._holders[cells] += 1
        if self._is_live[target]:
            self._enliven(cells)

    def truncate(self, seq: int, length: int) -> None:
        """Let a sequence keep only its first cells."""
        if not self.unified:
            gone = self._lengths[seq] - length
            self.free += gone
            self.live -= gone if self._is_live[seq] else 0
            self._lengths[seq] = length
            return
        cells = self._cells(seq)[length:]
        if self._is_live[seq]:
            self._deaden(cells)
        self._holders[cells] -= 1
        unused = cells[self._holders[cells] == 0]
        self._unused += unused.tolist()
        self.free += len(unused)
        self._lengths[seq] = length

    def set_live(self, seq: int, live: bool) -> None:
        """Say whether a request runs on a sequence."""
        if self._is_live[seq] == live:
            return
        self._is_live[seq] = live
        if not self.unified:
            self.live += self._lengths[seq] if live else -self._lengths[seq]
        elif live:
            self._enliven(self._cells(seq))
        else:
            self._deaden(self._cells(seq))

    def clear(self) -> None:
        """Forget all: no sequence holds anything or is live."""
        self.free = self.total
        self.live = 0
        self._lengths = [0] * len(self._lengths)
        self._holders[:] = 0
        self._live_holders[:] = 0
        self._unused = list(range(len(self._holders)))
        self._is_live = [False] * len(self._is_live)

    def _cells(self, seq: int) -> npt.NDArray[np.int32]:
        return self._table[seq, : self._lengths[seq]]

    def _take(self, count: int) -> None:
        if count > self.free:
            raise ValueError(f"{count} cells are wanted and {self.free} are free")
        self.free -= count

    def _new_cells(self, count: int) -> list[int]:
        self._take(count)
        cells = self._unused[self.free :]
        del self._unused[self.free :]
        return cells

    def _enliven(self, cells: npt.NDArray[np.int32]) -> None:
        self._live_holders[cells] += 1
        self.live += int((self._live_holders[cells] == 1).sum())

    def _deaden(self, cells: npt.NDArray[np.int32]) -> None:
        self._live_holders[cells] -= 1
        self.live -= int((self._live_holders[cells] == 0).sum())
