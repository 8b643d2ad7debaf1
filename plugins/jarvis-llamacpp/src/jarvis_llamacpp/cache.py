"""The sequences of llama.cpp's memory: who runs on which, and what each keeps for reuse."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from jarvis_llamacpp.ledger import KvLedger
from jarvis_llamacpp.sequence import Sequence, Tokens, common_prefix
from jarvis_llamacpp.store import StateStore, Stored

S = TypeVar("S", bound=Sequence)

LEAST_REUSE = 16
"""Tokens; a shorter prefix of another sequence is computed again, and is not stored."""

LEAST_COPY = 4
"""The same where a prefix is copied by the CPU that would have to compute it."""

COPIED = 64
"""Tokens that are copied in less time than one is computed: on a CPU it was 150 and more."""

MOST_AHEAD = 16 << 20
"""Bytes of a state at most that is stored before its slot is needed: some milliseconds."""

MOST_IDLE = 1024
"""Cells that idle sequences keep: every token that is computed looks at all shared cells."""


class SequenceMemory(Protocol):
    """What is asked of llama.cpp's memory."""

    def remove(self, seq: int, start: int) -> bool:
        """Forget tokens from a position on; False if only all can be forgotten."""
        ...

    def copy(self, source: int, target: int, end: int) -> bool:
        """Give an empty sequence another's tokens before a position; False if it stays empty."""
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
        stored: Whether what it holds was stored before somebody else wanted the slot.
    """

    seq: int
    tokens: Tokens = field(factory=lambda: np.empty(0, np.int32))
    salt: str | None = None
    used: int = 0
    owner: S | None = None
    stored: bool = False


@frozen
class Match(Generic[S]):
    """What of a sequence is already computed somewhere.

    Attributes:
        slot: The slot that has it, None if none does.
        stored: The state outside the KV cache that has it, None if none does.
        common: Tokens that are the same there.
        reused: Of those, tokens that are reused.
        shares: Whether reusing them takes no cells beside those of running sequences.
    """

    slot: Slot[S] | None = None
    stored: Stored | None = None
    common: int = 0
    reused: int = 0
    shares: bool = False

    @property
    def shared(self) -> int:
        """Tokens that take no further cells of those that running sequences hold."""
        return self.reused if self.shares else 0


class PrefixCache(Generic[S]):
    """Gives sequences a slot, with the longest prefix that any slot or the store holds.

    A sequence that ends leaves its tokens in its slot. When the slot or its cells are needed, those
    that were unused the longest go to the store.

    Attributes:
        ledger: The cells of the KV cache.
        slots: All slots.
        store: Sequences that left the KV cache.
        queries: Prompts that were looked up.
        hits: Of those, prompts of which a prefix was found.
    """

    def __init__(
        self,
        memory: SequenceMemory,
        ledger: KvLedger,
        store: StateStore,
        *,
        sequences: int,
        partial_reuse: bool,
        least_copy: int = LEAST_REUSE,
    ) -> None:
        """Begin with empty slots.

        Args:
            memory: llama.cpp's memory.
            ledger: An empty ledger.
            store: Where sequences go that leave the KV cache.
            sequences: How many slots there are.
            partial_reuse: Whether a part of a computed sequence can be reused.
            least_copy: Tokens; a shorter prefix is not copied.
        """
        self.ledger = ledger
        self.slots: list[Slot[S]] = [Slot(i) for i in range(sequences)]
        self.store = store
        self.queries = 0
        self.hits = 0
        self._memory = memory
        self._partial_reuse = partial_reuse
        self._least_copy = least_copy
        self._token_bytes = 0.0  # of a state, as the last one had it; 0 until there was one
        self._clock = 0

    # -- what is reused --------------------------------------------------------------------

    def match(self, sequence: S) -> Match[S]:
        """Find the longest prefix of a sequence's tokens in any slot, else in the store."""
        best: Match[S] = Match()
        for slot in self.slots:
            common = self._common(slot, sequence)
            better = common > best.common or (common == best.common and slot.owner is None)
            if common and better:
                shares = slot.owner is not None and self.ledger.unified
                best = Match(slot, None, common, self._whole_strides(sequence, common), shares)
        known = sequence.tokens[: sequence.length - 1]
        stored, common = self.store.find(known, sequence.salt, whole=not self._partial_reuse)
        if stored is not None and common >= best.common + self._worth(len(stored.tokens)):
            best = Match(None, stored, common, self._whole_strides(sequence, common))
        return best

    def _common(self, slot: Slot[S], sequence: S) -> int:
        """Tokens of a slot that a sequence could reuse."""
        held = self.ledger.length(slot.seq)
        if not held or slot.salt != sequence.salt:
            return 0
        if slot.owner is not None and not slot.owner.kept:
            return 0
        common = common_prefix(slot.tokens, sequence.tokens, min(held, sequence.length - 1))
        if not self._partial_reuse and (slot.owner is not None or common < held):
            return 0
        return common

    def _whole_strides(self, sequence: S, tokens: int) -> int:
        return tokens - tokens % sequence.stride if self._partial_reuse else tokens

    # -- sequences come and go -------------------------------------------------------------

    def enter(self, sequence: S, match: Match[S]) -> None:
        """Give a sequence a slot, with the prefix that was found."""
        slot = self._choose(match)
        own = self._whole_strides(sequence, self._common(slot, sequence))
        elsewhere = slot is not match.slot and match.reused >= own + self._least(match)
        reused = 0 if elsewhere else own
        if 2 * reused < self.ledger.length(slot.seq):
            self._keep(slot)
        if not self._truncate(slot, reused):
            reused = 0
        self._occupy(slot, sequence)
        if elsewhere:
            reused = self._bring(slot, match)
        if sequence.length == sequence.prompt_length:
            sequence.cached = reused
            self.queries += 1
            self.hits += reused > 0
        sequence.computed = reused

    def _least(self, match: Match[S]) -> int:
        """Tokens that bringing a prefix from elsewhere must save."""
        if match.stored is not None:
            return self._worth(len(match.stored.tokens))
        if match.slot is None or self.ledger.unified:
            return LEAST_REUSE
        return self._worth(self.ledger.length(match.slot.seq))  # the whole sequence is copied

    def _worth(self, copied: int) -> int:
        """Tokens that must be saved by copying so many."""
        return max(self._least_copy, copied // COPIED)

    def _bring(self, slot: Slot[S], match: Match[S]) -> int:
        """Put a prefix from elsewhere into an empty slot; returns its tokens."""
        reused = match.reused
        if match.slot is not None:
            if not self._memory.copy(match.slot.seq, slot.seq, reused):
                return 0
            self.ledger.share(match.slot.seq, slot.seq, reused)
            return reused
        stored = match.stored
        if stored is None:
            return 0
        self.store.touch(stored)
        count = len(stored.tokens)
        if not self.make_room(count) or not self._memory.restore(slot.seq, stored.state):
            return 0
        self.ledger.extend(slot.seq, count)
        return reused if self._truncate(slot, reused) else 0

    def return_saved(self, sequence: S) -> None:
        """Give a slot to a sequence that made room; if its state is lost it is computed again."""
        slot = self._choose(Match())
        self._keep(slot)
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
        """End a sequence; its tokens stay in the slot, if others may reuse them."""
        slot = self.slots[sequence.seq]
        self._release(sequence)
        if not sequence.kept:
            self._truncate(slot, 0)
        if self.ledger.unified and self.store.limit:
            while self.ledger.idle > MOST_IDLE and self.evict():
                pass

    def take_away(self, sequence: S, *, whole: bool = False) -> None:
        """Empty a sequence's slot.

        Args:
            sequence: If it has generated text, it keeps its state.
            whole: Whether it keeps the state of a part of its prompt, too.
        """
        slot = self.slots[sequence.seq]
        if sequence.length > sequence.prompt_length or (whole and sequence.computed):
            sequence.saved = self._memory.save(slot.seq)
        if sequence.saved is None:
            sequence.computed = 0
        self._release(sequence)
        self._truncate(slot, 0)

    def cut_back(self, sequence: S) -> None:
        """Forget what was computed of a running sequence beyond what the ledger knows."""
        if not self._memory.remove(sequence.seq, sequence.computed):
            self._memory.remove(sequence.seq, 0)
            self.ledger.truncate(sequence.seq, 0)
            sequence.computed = 0

    def move(self, sequence: S, seq: int) -> None:
        """Move a running sequence to an idle slot.

        Args:
            sequence: It goes on as if nothing had happened.
            seq: Sequence id of the slot, whose tokens are given up.
        """
        source, target = self.slots[sequence.seq], self.slots[seq]
        state = self._memory.save(source.seq)
        if state is None:
            return
        self._keep(target)
        self._truncate(target, 0)
        if not self._memory.restore(target.seq, state):
            return
        self._release(sequence)
        self._truncate(source, 0)
        self._occupy(target, sequence)
        self.ledger.extend(target.seq, sequence.computed)

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
        slot = min(idle, key=lambda s: s.used)
        self._keep(slot)
        self._truncate(slot, 0)
        return True

    def store_ahead(self) -> bool:
        """Store what one idle slot holds before the slot is needed; False if there is none.

        Else the next request would wait for it. States that take long are left for then: another
        request may come at any moment.
        """
        if not self._partial_reuse:
            return False
        for slot in self.slots:
            size = self.ledger.length(slot.seq) * self._token_bytes
            if slot.owner is None and not slot.stored and 0 < size <= MOST_AHEAD:
                slot.stored = True
                self._keep(slot)
                return True
        return False

    def forget(self) -> None:
        """Forget every prefix; what running sequences have computed is theirs alone from now on."""
        for slot in self.slots:
            if slot.owner is None:
                self._truncate(slot, 0)
            else:
                slot.owner.kept = False
        self.store.clear()

    def reset(self) -> None:
        """Forget everything: llama.cpp's memory was cleared."""
        for slot in self.slots:
            if slot.owner is not None:
                slot.owner.seq = -1
        self.slots = [Slot(slot.seq) for slot in self.slots]
        self.ledger.clear()
        self.store.clear()

    def _choose(self, match: Match[S]) -> Slot[S]:
        """An idle slot: the matching one if most of it is reused, else the oldest.

        Where each has cells of its own, one that must be stored first comes last: a request would
        wait for that. Its prefix can be copied.
        """
        source = match.slot
        if source is not None and source.owner is None and self.ledger.unified:
            mostly = match.common * 2 >= self.ledger.length(source.seq)
            if mostly or not self._partial_reuse:
                return source
            others = [s for s in self.slots if s.owner is None and s is not source]
            return min(others, key=self._age, default=source)
        idle = [s for s in self.slots if s.owner is None]
        if self.ledger.unified:
            return min(idle, key=self._age)
        return min(idle, key=lambda s: (-self._neighbours(s), *self._cost(s, match), *self._age(s)))

    def _cost(self, slot: Slot[S], match: Match[S]) -> tuple[bool, bool]:
        """Whether a slot must be stored before it is taken, and whether it is not the match's."""
        held = self.ledger.length(slot.seq)
        lost = slot is not match.slot or 2 * match.reused < held
        worth = held >= LEAST_REUSE and self.store.limit > 0
        return lost and worth and not slot.stored, slot is not match.slot

    def _age(self, slot: Slot[S]) -> tuple[bool, int]:
        return self.ledger.length(slot.seq) > 0, slot.used

    def _neighbours(self, slot: Slot[S]) -> int:
        """Running sequences beside a slot: llama.cpp computes neighbours together."""
        beside = self.slots[max(0, slot.seq - 1) : slot.seq + 2]
        return sum(s.owner is not None for s in beside)

    def _keep(self, slot: Slot[S]) -> None:
        """Put what an idle slot holds into the store."""
        held = self.ledger.length(slot.seq)
        tokens = slot.tokens[:held]
        if held < LEAST_REUSE or not self.store.limit:
            return
        if self._partial_reuse and self.store.holds(tokens, slot.salt):
            return
        state = self._memory.save(slot.seq)
        if state is not None:
            self._token_bytes = len(state) / held
            self.store.put(tokens, slot.salt, state, replace=self._partial_reuse)

    def _release(self, sequence: S) -> None:
        slot = self.slots[sequence.seq]
        self._clock += 1
        slot.used = self._clock
        slot.owner = None
        sequence.seq = -1
        self.ledger.set_live(slot.seq, False)

    def _occupy(self, slot: Slot[S], sequence: S) -> None:
        slot.tokens, slot.salt, slot.owner = sequence.tokens, sequence.salt, sequence
        slot.stored = False
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
