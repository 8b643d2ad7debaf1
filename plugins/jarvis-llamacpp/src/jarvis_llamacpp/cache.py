"""The sequences of llama.cpp's memory: who runs on which, and what each keeps for reuse."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from jarvis_llamacpp.ledger import KvLedger
from jarvis_llamacpp.sequence import Sequence, Tokens, common_prefix

S = TypeVar("S", bound=Sequence)

LEAST_REUSE = 16
"""Tokens; a shorter common prefix is computed again."""


class SequenceMemory(Protocol):
    """What is asked of llama.cpp's memory."""

    def remove(self, seq: int, start: int) -> bool:
        """Forget tokens from a position on; False if only all can be forgotten."""
        ...

    def copy(self, source: int, target: int, end: int) -> None:
        """Let a sequence share another's tokens before a position."""
        ...

    def save(self, seq: int) -> npt.NDArray[np.uint8] | None:
        """A sequence's state, None if there is none to be had."""
        ...

    def restore(self, seq: int, state: npt.NDArray[np.uint8]) -> bool:
        """Put a saved state into an empty sequence; False if it does not fit."""
        ...


@define(eq=False)
class Slot(Generic[S]):
    """A sequence id of llama.cpp with the tokens that it holds.

    Attributes:
        seq: The id.
        tokens: The tokens; the ledger knows how many of them are held.
        salt: Who may reuse them.
        used: When it was last used; larger is later.
        owner: The sequence that runs on it, None if its tokens are only kept.
    """

    seq: int
    tokens: Tokens = field(factory=lambda: np.empty(0, np.int32))
    salt: str | None = None
    used: int = 0
    owner: S | None = None


@frozen
class Match(Generic[S]):
    """What of a sequence is already computed somewhere.

    Attributes:
        slot: Where, None if nowhere.
        common: Tokens that are the same there.
        reused: Of those, tokens that are reused.
    """

    slot: Slot[S] | None = None
    common: int = 0
    reused: int = 0

    @property
    def shared(self) -> int:
        """Tokens that take no further cells of those that running sequences hold."""
        return self.reused if self.slot is not None and self.slot.owner is not None else 0


class PrefixCache(Generic[S]):
    """Gives sequences a slot, with the longest prefix that any slot holds.

    A sequence that ends leaves its tokens in its slot. They are given up when the slot or its
    cells are needed, those first that were unused the longest.

    Attributes:
        ledger: The cells of the KV cache.
        slots: All slots.
        queries: Prompts that were looked up.
        hits: Of those, prompts of which a prefix was found.
    """

    def __init__(
        self, memory: SequenceMemory, ledger: KvLedger, *, sequences: int, partial_reuse: bool
    ) -> None:
        """Begin with empty slots.

        Args:
            memory: llama.cpp's memory.
            ledger: An empty ledger.
            sequences: How many slots there are.
            partial_reuse: Whether a part of a computed sequence can be reused.
        """
        self.ledger = ledger
        self.slots: list[Slot[S]] = [Slot(i) for i in range(sequences)]
        self.queries = 0
        self.hits = 0
        self._memory = memory
        self._partial_reuse = partial_reuse
        self._clock = 0

    def match(self, sequence: S) -> Match[S]:
        """Find the slot that holds the longest prefix of a sequence."""
        best: Match[S] = Match()
        for slot in self.slots:
            held = self.ledger.length(slot.seq)
            if held < LEAST_REUSE or slot.salt != sequence.salt:
                continue
            common = common_prefix(slot.tokens, sequence.tokens, min(held, sequence.length - 1))
            if not self._partial_reuse and (slot.owner is not None or common < held):
                continue
            better = common > best.common or (common == best.common and slot.owner is None)
            if common >= LEAST_REUSE and better:
                reused = common - common % sequence.stride if self._partial_reuse else common
                best = Match(slot, common, reused)
        return best

    def enter(self, sequence: S, match: Match[S]) -> None:
        """Give a sequence a slot, with the prefix that was found."""
        source, reused = match.slot, match.reused
        slot = self._choose(match)
        if slot is not source:
            self._truncate(slot, 0)
        elif not self._truncate(slot, reused):
            reused = 0
        self._occupy(slot, sequence)
        if source is not None and slot is not source and reused:
            self._memory.copy(source.seq, slot.seq, reused)
            self.ledger.share(source.seq, slot.seq, reused)
        if sequence.length == sequence.prompt_length:
            sequence.cached = reused
            self.queries += 1
            self.hits += reused > 0
        sequence.computed = reused

    def return_saved(self, sequence: S) -> None:
        """Give a slot to a sequence that made room; if its state is lost it is computed again."""
        slot = self._choose(Match())
        self._truncate(slot, 0)
        state, sequence.saved = sequence.saved, None
        restored = (
            state is not None
            and self.make_room(sequence.computed)
            and self._memory.restore(slot.seq, state)
        )
        self._occupy(slot, sequence)
        if restored:
            self.ledger.extend(slot.seq, sequence.computed)
        else:
            sequence.computed = 0

    def leave(self, sequence: S) -> None:
        """End a sequence; its tokens stay in the slot."""
        slot = self.slots[sequence.seq]
        self._clock += 1
        slot.used = self._clock
        slot.owner = None
        sequence.seq = -1
        self.ledger.set_live(slot.seq, False)

    def take_away(self, sequence: S) -> None:
        """Empty a sequence's slot; one that has generated text keeps its state."""
        slot = self.slots[sequence.seq]
        if sequence.length > sequence.prompt_length:
            sequence.saved = self._memory.save(slot.seq)
        if sequence.saved is None:
            sequence.computed = 0
        self.leave(sequence)
        self._truncate(slot, 0)

    def make_room(self, tokens: int) -> bool:
        """Give up kept tokens until so many cells are free; False if that is not enough."""
        while self.ledger.free < tokens:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Empty the idle slot that was unused the longest; False if all are empty."""
        idle = [s for s in self.slots if s.owner is None and self.ledger.length(s.seq)]
        if not idle:
            return False
        self._truncate(min(idle, key=lambda s: s.used), 0)
        return True

    def reset(self) -> None:
        """Forget everything: llama.cpp's memory was cleared."""
        for slot in self.slots:
            if slot.owner is not None:
                slot.owner.seq = -1
        self.slots = [Slot(slot.seq) for slot in self.slots]
        self.ledger.clear()

    def _choose(self, match: Match[S]) -> Slot[S]:
        """The matching slot if most of it is reused, else the one that was unused the longest."""
        source = match.slot
        idle = [s for s in self.slots if s.owner is None and s is not source]
        if source is not None and source.owner is None:
            mostly = match.common * 2 >= self.ledger.length(source.seq)
            if mostly or not idle or not self._partial_reuse:
                return source
        return min(idle, key=lambda s: (self.ledger.length(s.seq) > 0, s.used))

    def _occupy(self, slot: Slot[S], sequence: S) -> None:
        slot.tokens, slot.salt, slot.owner = sequence.tokens, sequence.salt, sequence
        sequence.seq = slot.seq
        self.ledger.set_live(slot.seq, True)

    def _truncate(self, slot: Slot[S], length: int) -> bool:
        """Let a slot keep its first tokens; False if it could only be emptied."""
        if length == self.ledger.length(slot.seq):
            return True
        kept = self._memory.remove(slot.seq, length)
        if not kept:
            self._memory.remove(slot.seq, 0)
        self.ledger.truncate(slot.seq, length if kept else 0)
        return kept
