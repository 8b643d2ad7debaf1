"""Decides what each step computes: plain code over plain data.

Every running sequence gets its next token in every step; beside them prompts are read, a chunk in
each step, half of it of the oldest, the rest of the shortest, so that neither a long prompt nor a
stream of short ones waits for the other. Prompts less urgent than the first one add but a few
tokens to its steps. Requests start as long as their prompts fit beside what runs; when the KV cache
is full nonetheless, kept prefixes go first, then the youngest sequence makes room with its state
saved. The oldest always goes on, so everything ends. Where sequences do not share cells the cache
is never full, and those that run are kept side by side. Where several share the engine, sequences
give way for their sake too (``sharing.py``), and the prompt of who has nothing else is read alone.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterator
from typing import Generic

from attrs import frozen

from jarvis_llamacpp.cache import LEAST_REUSE, Match, PrefixCache, S, SequenceMemory
from jarvis_llamacpp.ledger import KvLedger
from jarvis_llamacpp.sequence import Sequence, common_prefix
from jarvis_llamacpp.sharing import Sharing
from jarvis_llamacpp.store import StateStore

LEAST_LED = 64
"""Tokens that waiting for another sequence's prefix must save."""

HEADROOM = 32
"""Tokens that are kept free for each running sequence when another begins."""

PATIENCE = 4
"""Steps after which a gap between running sequences is closed."""

ALIGNMENT = 64
"""Chunks end at multiples of this: attention works in tiles of so many tokens."""

URGENT_SHARE = 8
"""Tokens of a prompt for each one that less urgent prompts add to its step."""

SCORED_ROWS = 32
"""Rows of logits of one step for prompts whose every token is scored."""

ADAPTER_TURNS = 4
"""Steps in a row for sequences of one LoRA adapter while those of others wait."""


@frozen
class Chunk(Generic[S]):
    """Further prompt tokens of one sequence.

    Attributes:
        sequence: Whose.
        count: How many.
        last: Whether the prompt ends with them.
    """

    sequence: S
    count: int
    last: bool


@frozen
class Plan(Generic[S]):
    """What one step computes.

    Attributes:
        chunks: Pieces of prompts, in descending order of their sequence ids.
        singles: Sequences that get their next token.
    """

    chunks: list[Chunk[S]]
    singles: list[S]

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.chunks or self.singles)

    @property
    def adapter(self) -> str | None:
        """The LoRA adapter of all its sequences."""
        return (self.singles or [chunk.sequence for chunk in self.chunks])[0].adapter


class Scheduler(Generic[S]):
    """Owns the queue and the running sequences.

    Attributes:
        waiting: Sequences that have not begun or made room for others, in order.
        running: Sequences that have a slot, in order.
        cache: Their slots.
    """

    def __init__(
        self,
        memory: SequenceMemory,
        *,
        sequences: int,
        kv_size: int,
        context_length: int,
        prompt_budget: int,
        partial_reuse: bool = True,
        unified: bool = True,
        store_bytes: int = 0,
        least_copy: int = LEAST_REUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing.

        Args:
            memory: llama.cpp's memory.
            sequences: Sequences that run at the same time.
            kv_size: Tokens that the KV cache holds.
            context_length: Tokens of one sequence at most.
            prompt_budget: Prompt tokens of one step at most.
            partial_reuse: Whether a part of a computed sequence can be reused.
            unified: Whether all sequences share the cells of the KV cache.
            store_bytes: Bytes at most of sequences that left the KV cache.
            least_copy: Tokens; a shorter prefix is not copied.
            clock: Tells the seconds.
        """
        ledger = KvLedger(sequences, kv_size, context_length, unified=unified)
        store = StateStore(store_bytes)
        self.cache: PrefixCache[S] = PrefixCache(
            memory,
            ledger,
            store,
            sequences=sequences,
            partial_reuse=partial_reuse,
            least_copy=least_copy,
        )
        self.waiting: list[S] = []
        self.running: list[S] = []
        self._ledger = ledger
        self._sharing: Sharing[S] = Sharing(clock)
        self._prompt_budget = prompt_budget
        self._sequences = sequences
        self._most_running = sequences
        self._partial_reuse = partial_reuse
        self._torn = 0
        self._steady: Plan[S] | None = None
        self._was_alone = False  # the last step read a newcomer's prompt and nothing else
        self._adapter: str | None = None
        self._turns = 0

    @property
    def reads(self) -> bool:
        """Whether there are prompts to read."""
        return bool(self.waiting) or any(s.length - s.computed != 1 for s in self.running)

    def add(self, sequence: S) -> None:
        """Queue a sequence."""
        self._sharing.began_to_wait(sequence)
        insort(self.waiting, sequence, key=_order)

    def finish(self, sequence: S) -> None:
        """End a sequence, whatever it is doing; what it computed is kept for reuse."""
        self._steady = None
        if sequence.seq < 0:
            self.waiting.remove(sequence)
            sequence.saved = None
            self._lend()
        else:
            self.running.remove(sequence)
            self.cache.leave(sequence)
            self._most_running = self._sequences

    def schedule(self) -> Plan[S]:
        """Choose what the next step computes."""
        steady = self._steady
        if steady is not None and not self.waiting and self.cache.make_room(len(steady.singles)):
            return steady
        self._steady = None
        self._admit()
        self._close_ranks()
        while True:
            plan = self._plan()
            if plan is not None:
                return plan
            self._preempt(self.running[-1])

    def commit(self, plan: Plan[S]) -> None:
        """Note that a step was computed."""
        if plan.singles:
            self._ledger.extend_each([s.seq for s in plan.singles])
            for sequence in plan.singles:
                sequence.computed += 1
        for chunk in plan.chunks:
            self._ledger.extend(chunk.sequence.seq, chunk.count)
            chunk.sequence.computed += chunk.count
            chunk.sequence.stopped = None

    def retract(self, plan: Plan[S]) -> None:
        """Note that a step was begun and not computed to its end."""
        self._steady = None
        for chunk in plan.chunks:
            self._sharing.was_stopped(chunk.sequence)
        for sequence in (*(chunk.sequence for chunk in plan.chunks), *plan.singles):
            self.cache.cut_back(sequence)

    def may_be_stopped(self, plan: Plan[S]) -> bool:
        """Whether a step that reads prompts may be stopped for who comes.

        That helps if there is a place and all before the step stays. Where places are shared, who
        comes although all are taken is let in beside the others.
        """
        if not self._partial_reuse:
            return False
        place = len(self.running) < self._most_running or any(s.share for s in self.running)
        return place and all(self._sharing.may_be_stopped(c.sequence) for c in plan.chunks)

    def relieve(self) -> bool:
        """Make room because llama.cpp had none for a step; False if there is nothing to give up."""
        if self.cache.evict():
            return True
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        # llama.cpp knows better than the ledger: nobody comes back before somebody has ended.
        self._most_running = len(self.running)
        return True

    def forget_prefixes(self) -> None:
        """Forget what was computed for others; what runs or made room goes on with its own."""
        self.cache.forget()
        for sequence in self.waiting:
            sequence.leader = None
            if sequence.saved is not None:
                sequence.kept = False

    def reset(self) -> None:
        """Drop what runs and forget what was computed; sequences that wait stay."""
        self._steady = None
        self.running.clear()
        self.cache.reset()
        self._most_running = self._sequences

    # -- what a step computes --------------------------------------------------------------

    def _plan(self) -> Plan[S] | None:
        """A step, or None if the youngest sequence must make room first."""
        singles: list[S] = []
        reading: list[S] = []
        was_alone, self._was_alone = self._was_alone, False
        together = self._of_one_adapter()
        lone = None if was_alone else self._sharing.lone_newcomer(together, self.running)
        if lone is not None and lone.remaining <= self._prompt_budget:
            together, self._was_alone = [lone], True
        for sequence in together:
            (singles if sequence.length - sequence.computed == 1 else reading).append(sequence)
        if not self.cache.make_room(len(singles)):
            return None
        singles.sort(key=_seq)
        if not reading:
            plan: Plan[S] = Plan([], singles)
            if len(singles) == len(self.running) and not self._torn:
                self._steady = plan
            return plan
        chunks = self._share_out(reading, len(singles))
        if not chunks and not singles:
            return None
        return Plan(chunks, singles)

    def _share_out(self, reading: list[S], taken: int) -> list[Chunk[S]]:
        """Choose which prompts are read on, and how far.

        Args:
            reading: Sequences whose prompts are not computed, the oldest first.
            taken: Cells that are given away already.
        """
        others = sum(s.remaining for s in reading[1:])
        budget = min(self._prompt_budget, reading[0].remaining + others)
        if any(s.in_pieces for s in reading):
            budget = min(budget, 2 * ALIGNMENT - 1)
        self.cache.make_room(taken + budget)
        budget = min(budget, self._ledger.free - taken)
        chunks = []
        rows = SCORED_ROWS
        patient = 0  # tokens for prompts less urgent than the first
        for sequence, most in _shares(reading, budget, others):
            count = min(most, budget)
            if sequence is reading[0]:
                patient = -(-count // URGENT_SHARE)
            elif sequence.order[0] > reading[0].order[0]:
                count = min(count, patient)
                patient -= count
            if sequence.scored:
                count = min(count, rows)
                rows -= count
            if count <= 0:
                continue
            if count < sequence.remaining and not sequence.scored:
                beyond = (sequence.computed + count) % ALIGNMENT
                count -= beyond if beyond < count else 0
            budget -= count
            chunks.append(Chunk(sequence, count, count == sequence.remaining))
        # Neighbours in ascending order would be cut into pieces of the shortest one's length.
        chunks.sort(key=lambda chunk: -chunk.sequence.seq)
        return chunks

    def _of_one_adapter(self) -> list[S]:
        """Running sequences that one step can compute: llama.cpp adapts whole steps."""
        adapters = list(dict.fromkeys(s.adapter for s in self.running))
        if len(adapters) < 2:
            return self.running
        if self._adapter not in adapters:
            self._adapter, self._turns = adapters[0], 0
        elif self._turns >= ADAPTER_TURNS:
            after = adapters.index(self._adapter) + 1
            self._adapter, self._turns = adapters[after % len(adapters)], 0
        self._turns += 1
        return [s for s in self.running if s.adapter == self._adapter]

    # -- who runs --------------------------------------------------------------------------

    def _admit(self) -> None:
        """Start waiting sequences, in turn; only those pass others that wait for a leader."""
        if not self.waiting:
            return
        entered: list[S] = []
        for sequence in self._sharing.in_turn(self.waiting, self.running):
            if self._is_led(sequence):
                continue
            full = len(self.running) >= self._most_running
            if full and self._sharing.who_gives_way(sequence, self.running) is None:
                break
            match = self._match(sequence)
            if sequence.saved is None and self._find_leader(sequence, match.reused):
                continue
            while not self._has_room(sequence, match):
                other = self._sharing.who_gives_way(sequence, self.running)
                if other is None or other in entered:
                    return
                self._give_way(other, sequence)
                match = self._match(sequence)  # it may have been the other's
            self._enter(sequence, match)
            entered.append(sequence)
            if sequence.share is not None and not sequence.share.others:
                break  # to make a place for others may take long
            if sequence.share is not None:
                self.cache.store_ahead()  # else a newcomer might have to wait for that

    def _match(self, sequence: S) -> Match[S]:
        return Match() if sequence.saved is not None else self.cache.match(sequence)

    def _enter(self, sequence: S, match: Match[S]) -> None:
        """Give a waiting sequence a free place."""
        self.waiting.remove(sequence)
        if sequence.saved is None:
            self.cache.enter(sequence, match)
        else:
            self.cache.return_saved(sequence)
            self._lend()
        self._sharing.got_place(sequence)
        insort(self.running, sequence, key=_order)

    def _has_room(self, sequence: S, match: Match[S]) -> bool:
        """Whether a sequence has a place, and its tokens fit beside what runs.

        Alone, all of them do.
        """
        if len(self.running) >= self._most_running:
            return False
        if not self.running or not self._ledger.unified:
            return True
        promised = sum(s.remaining for s in self.running)
        tokens = promised + sequence.length - match.shared
        headroom = HEADROOM * (len(self.running) + 1)
        return self._ledger.live + tokens + headroom <= self._ledger.total

    def _is_led(self, sequence: S) -> bool:
        leader = sequence.leader
        if leader is not None and leader.seq >= 0 and leader.computed < sequence.led:
            return True
        sequence.leader = None
        return False

    def _find_leader(self, sequence: S, reused: int) -> bool:
        """Find a running sequence whose prompt, not yet computed, begins like this one's."""
        if not self._partial_reuse:
            return False
        best = reused + LEAST_LED - 1
        for other in self.running:
            if other.computed >= other.prompt_length or other.salt != sequence.salt:
                continue
            if not other.kept:
                continue
            most = min(other.prompt_length, sequence.length - 1)
            common = common_prefix(other.tokens, sequence.tokens, most)
            common -= common % sequence.stride
            if common > max(best, other.computed):
                best, sequence.leader, sequence.led = common, other, common
        return sequence.leader is not None

    def _close_ranks(self) -> None:
        """Move a sequence into a gap between others, once it seems that nobody else will.

        Without shared cells llama.cpp computes only neighbours together: a gap costs another pass
        over the weights in every step, moving a sequence far less, and once.
        """
        if self._ledger.unified or len(self.running) < 2:
            return
        taken = {s.seq for s in self.running}
        first, last = min(taken), max(taken)
        if last - first + 1 == len(taken):
            self._torn = 0
            return
        self._torn += 1
        if self._torn < PATIENCE:
            return
        self._torn = 0
        gap = next(seq for seq in range(first, last) if seq not in taken)
        self.cache.move(next(s for s in self.running if s.seq == last), gap)

    def _preempt(self, sequence: S, *, whole: bool = False) -> None:
        """Let a sequence make room for the others; it goes on when it fits again."""
        self._steady = None
        self.running.remove(sequence)
        self.cache.take_away(sequence, whole=whole)
        self.add(sequence)

    def _give_way(self, sequence: S, other: S) -> None:
        """Let a sequence give its place to another one.

        The states of those that did take room of the store, but for one, which there is always. If
        there is no more, it is computed again, and so that it gets on at all it stays from then on.
        """
        had = sequence.computed
        self._preempt(sequence, whole=True)
        if sequence.saved is not None:
            leaving = 0 if other.saved is None else len(other.saved)
            most = max(self.cache.store.limit, len(sequence.saved)) + leaving
            if self._lend() > most:
                sequence.saved, sequence.computed = None, 0
                self._lend()
        sequence.stays = had > 0 and sequence.saved is None

    def _lend(self) -> int:
        """Let saved states take room of the store; returns their bytes."""
        size = sum(len(s.saved) for s in self.waiting if s.saved is not None)
        self.cache.store.lend(size)
        return size


def _shares(reading: list[S], budget: int, others: int) -> Iterator[tuple[S, int]]:
    """Who may take how much of the budget, in order: half for the oldest, then the shortest."""
    oldest = reading[0]
    yield oldest, min(oldest.remaining, max(budget // 2, budget - others))
    for sequence in sorted(reading[1:], key=_remaining):
        yield sequence, sequence.remaining


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


def _seq(sequence: Sequence) -> int:
    return sequence.seq


def _remaining(sequence: Sequence) -> int:
    return sequence.remaining
