"""What each step computes, without a model."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest

from jarvis_core import Share
from jarvis_llamacpp.cache import MOST_IDLE
from jarvis_llamacpp.scheduler import (
    ADAPTER_TURNS,
    PATIENCE,
    SCORED_ROWS,
    URGENT_SHARE,
    Plan,
    Scheduler,
)
from jarvis_llamacpp.sequence import Sequence

Cell = tuple[int, int]  # position and token


class Memory:
    """llama.cpp's KV cache: sequences of cells, in a unified one some of them shared."""

    def __init__(
        self, cells: int, *, partial: bool = True, saves: bool = True, unified: bool = True
    ) -> None:
        self.total = cells
        self.unified = unified
        self.partial = partial
        self.saves = saves
        self.sequences: dict[int, list[list[int]]] = {}
        self.saved = 0

    @property
    def used(self) -> int:
        return len(set().union(*(map(id, cells) for cells in self.sequences.values())))

    def tokens(self, seq: int) -> list[int]:
        return [cell[0] for cell in self.sequences.get(seq, [])]

    def write(self, seq: int, start: int, tokens: Iterable[int]) -> None:
        cells = self.sequences.setdefault(seq, [])
        assert len(cells) == start, "positions must be consecutive"
        cells.extend([int(token)] for token in tokens)
        assert self.used <= self.total, "more cells than there are"

    def remove(self, seq: int, start: int) -> bool:
        if start and not self.partial:
            return False
        del self.sequences.setdefault(seq, [])[start:]
        return True

    def copy(self, source: int, target: int, end: int) -> bool:
        assert not self.sequences.get(target), "the target must be empty"
        cells = self.sequences[source][:end]
        if not self.unified and not self.saves:
            return False
        self.sequences[target] = cells if self.unified else [[*cell] for cell in cells]
        return True

    def save(self, seq: int) -> npt.NDArray[np.uint8] | None:
        self.saved += 1
        tokens = np.asarray(self.tokens(seq), np.int32)
        return tokens.view(np.uint8) if self.saves else None

    def restore(self, seq: int, state: npt.NDArray[np.uint8]) -> bool:
        assert not self.sequences.get(seq), "the target must be empty"
        self.write(seq, 0, state.view(np.int32).tolist())
        return True


class Engine:
    """A scheduler with a memory; the next token of a sequence depends on all before it."""

    def __init__(
        self,
        *,
        sequences: int = 4,
        kv_size: int = 4096,
        context_length: int = 1024,
        n_batch: int = 128,
        partial: bool = True,
        saves: bool = True,
        unified: bool = True,
        store_bytes: int = 0,
        least_copy: int = 16,
    ) -> None:
        self.memory = Memory(kv_size, partial=partial, saves=saves, unified=unified)
        self.n_batch = n_batch
        self.now = 0.0
        self.scheduler: Scheduler[Sequence] = Scheduler(
            self.memory,
            sequences=sequences,
            kv_size=kv_size,
            context_length=context_length,
            prompt_budget=n_batch,
            partial_reuse=partial,
            unified=unified,
            store_bytes=store_bytes,
            least_copy=least_copy,
            clock=lambda: self.now,
        )
        self.most: dict[Sequence, int] = {}
        self.arrivals = 0
        self.begun: list[Sequence] = []

    def add(
        self,
        prompt: Iterable[int],
        *,
        most: int = 4,
        priority: int = 0,
        salt: str | None = None,
        stride: int = 1,
        share: Share | None = None,
    ) -> Sequence:
        ids = np.fromiter(prompt, np.int32)
        tokens = np.zeros(len(ids) + most, np.int32)
        tokens[: len(ids)] = ids
        self.arrivals += 1
        sequence = Sequence(
            tokens=tokens,
            prompt_length=len(ids),
            length=len(ids),
            order=(priority, self.arrivals),
            salt=salt,
            stride=stride,
            share=share,
        )
        self.most[sequence] = len(tokens)
        self.scheduler.add(sequence)
        return sequence

    def step(self, *, stopped: bool = False) -> Plan[Sequence]:
        """Compute a step, which takes a tenth of a second, unless it is stopped in the middle."""
        self.now += 0.1
        plan = self.scheduler.schedule()
        work = [(c.sequence, c.count) for c in plan.chunks] + [(s, 1) for s in plan.singles]
        assert sum(chunk.count for chunk in plan.chunks) <= self.n_batch
        for sequence, count in work:
            start = sequence.computed
            self.memory.write(sequence.seq, start, sequence.tokens[start : start + count])
            if sequence not in self.begun:
                self.begun.append(sequence)
        if stopped:
            self.scheduler.retract(plan)
            self.check()
            return plan
        self.scheduler.commit(plan)
        self.check()
        for sequence in [c.sequence for c in plan.chunks if c.last] + plan.singles:
            sequence.append(next_token(sequence))
            if sequence.length == self.most[sequence]:
                self.finish(sequence)
        return plan

    def finish(self, sequence: Sequence) -> None:
        del self.most[sequence]
        self.scheduler.finish(sequence)

    def check(self) -> None:
        """Books and memory agree, and the memory holds what it should."""
        ledger = self.scheduler.cache.ledger
        assert ledger.total - ledger.free == self.memory.used
        for slot in self.scheduler.cache.slots:
            held = self.memory.tokens(slot.seq)
            assert ledger.length(slot.seq) == len(held)
            assert held == slot.tokens[: len(held)].tolist()
        for sequence in self.scheduler.running:
            assert self.memory.tokens(sequence.seq) == sequence.tokens[: sequence.computed].tolist()

    def run(self, limit: int = 2000) -> int:
        for steps in range(limit):
            if not self.step():
                assert not self.scheduler.waiting
                return steps
        raise AssertionError("it never ends")


def next_token(sequence: Sequence) -> int:
    return int(sequence.tokens[: sequence.length].sum() * 31 + sequence.length) % 997 + 1000


def expected(prompt: Iterable[int], most: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append((sum(tokens) * 31 + len(tokens)) % 997 + 1000)
    return tokens


def test_a_prompt_is_read_in_one_chunk_if_it_fits_in_a_step() -> None:
    engine = Engine(n_batch=128)
    sequence = engine.add(range(100))
    plan = engine.step()

    assert [(c.sequence, c.count, c.last) for c in plan.chunks] == [(sequence, 100, True)]


def test_a_long_prompt_is_read_in_chunks_that_end_at_whole_tiles() -> None:
    engine = Engine(n_batch=100)
    engine.add(range(300))
    counts = [engine.step().chunks[0].count for _ in range(5)]

    assert counts == [64, 64, 64, 64, 44]


def test_generation_goes_on_beside_a_long_prompt() -> None:
    engine = Engine(n_batch=128)
    writer = engine.add(range(10), most=20)
    engine.step()
    engine.add(range(500, 1000), most=2)
    plans = [engine.step() for _ in range(4)]

    assert [plan.singles for plan in plans] == [[writer]] * 4
    assert all(plan.chunks for plan in plans)


def test_a_short_prompt_is_read_beside_a_long_one() -> None:
    engine = Engine(n_batch=128)
    engine.add(range(500), most=2)
    engine.step()
    short = engine.add(range(600, 630), most=2)
    plan = engine.step()

    assert (short, 30) in [(c.sequence, c.count) for c in plan.chunks]


def test_a_stream_of_short_prompts_does_not_stop_a_long_one() -> None:
    engine = Engine(n_batch=128)
    long = engine.add(range(640), most=2)
    for i in range(10):
        engine.add(range(1000 * i, 1000 * i + 120), most=1)
        engine.step()

    assert long.computed >= 640


def test_the_step_that_reads_an_urgent_prompt_is_not_filled_with_those_of_others() -> None:
    engine = Engine(n_batch=512)
    burst = [engine.add(range(1000 * i, 1000 * i + 400), priority=9) for i in (1, 2)]
    engine.step()
    urgent = engine.add(range(30))
    plan = engine.step()

    counts = {chunk.sequence: chunk.count for chunk in plan.chunks}
    assert counts.pop(urgent) == 30
    assert 0 < sum(counts.values()) <= 30 / URGENT_SHARE + 1
    engine.step()
    assert all(sequence.computed >= 400 for sequence in burst)


def test_a_stream_of_urgent_prompts_does_not_stop_a_patient_one() -> None:
    engine = Engine(n_batch=512)
    patient = engine.add(range(40), priority=9, most=2)
    for i in range(1, 11):
        engine.add(range(1000 * i, 1000 * i + 30), most=1)
        engine.step()

    assert patient.computed >= 40


def test_sequences_begin_in_the_order_of_priority_then_arrival() -> None:
    engine = Engine(sequences=1)
    late = engine.add([1, 2, 3], priority=1)
    first, second = engine.add([4, 5, 6]), engine.add([7, 8, 9])
    engine.run()

    assert engine.begun == [first, second, late]


def test_no_more_sequences_run_than_there_are_slots() -> None:
    engine = Engine(sequences=3)
    for i in range(8):
        engine.add(range(100 * i, 100 * i + 20))
    engine.step()

    assert len(engine.scheduler.running) == 3
    assert len(engine.scheduler.waiting) == 5
    engine.run()


def test_the_prefix_of_a_finished_sequence_is_reused_in_place() -> None:
    engine = Engine()
    engine.add(range(100), most=3)
    engine.run()
    follower = engine.add([*range(100), *range(200, 220)])
    engine.run()

    assert follower.cached == 100
    assert follower.tokens.tolist() == expected([*range(100), *range(200, 220)], 4)


def test_the_prefix_of_a_running_sequence_is_shared() -> None:
    engine = Engine()
    leader = engine.add(range(100), most=30)
    engine.step()
    follower = engine.add([*range(90), *range(200, 220)], most=30)
    engine.step()

    assert follower.cached == 90
    assert engine.memory.used < leader.computed + follower.computed
    engine.run()


def test_a_short_common_prefix_is_not_worth_sharing() -> None:
    engine = Engine()
    engine.add(range(100))
    engine.run()
    other = engine.add([*range(8), *range(200, 220)])
    engine.run()

    assert other.cached == 0


def test_at_least_one_token_of_a_prompt_is_computed() -> None:
    engine = Engine()
    engine.add(range(100))
    engine.run()
    again = engine.add(range(100))
    engine.run()

    assert again.cached == 99


def test_a_stride_reuses_whole_tiles_only() -> None:
    engine = Engine()
    engine.add(range(150))
    engine.run()
    again = engine.add(range(150), stride=64)
    engine.run()

    assert again.cached == 128


def test_prefixes_are_not_shared_across_salts() -> None:
    engine = Engine()
    engine.add(range(100), salt="a")
    engine.run()
    other, same = engine.add(range(100), salt="b"), engine.add(range(100), salt="a")
    engine.run()

    assert (other.cached, same.cached) == (0, 99)


def test_a_prefix_that_is_being_computed_is_waited_for() -> None:
    engine = Engine(sequences=8, n_batch=128)
    crowd = [engine.add([*range(400), 1000 + i], most=2) for i in range(6)]
    first = engine.step()
    engine.run()

    assert [c.sequence for c in first.chunks] == crowd[:1]
    assert [s.cached for s in crowd] == [0] + [400] * 5


def test_waiting_for_a_prefix_ends_when_its_sequence_ends() -> None:
    engine = Engine(sequences=8, n_batch=128)
    leader = engine.add([*range(400), 1000])
    follower = engine.add([*range(400), 1001])
    engine.step()
    engine.finish(leader)
    engine.run()

    assert follower.cached == 128
    assert follower.tokens.tolist() == expected([*range(400), 1001], 4)


def test_who_waits_for_a_prefix_lets_others_pass() -> None:
    engine = Engine(sequences=8, n_batch=128)
    engine.add([*range(400), 1000])
    engine.add([*range(400), 1001])
    other = engine.add(range(600, 610))
    plan = engine.step()

    assert other in [c.sequence for c in plan.chunks]


def test_kept_prefixes_are_given_up_when_cells_are_needed() -> None:
    engine = Engine(kv_size=512, context_length=512)
    engine.add(range(300))
    engine.run()
    engine.add(range(1000, 1400))
    engine.run()

    assert engine.memory.used <= 512


def test_a_prompt_waits_until_it_fits_beside_what_runs() -> None:
    engine = Engine(kv_size=512, context_length=512, n_batch=512)
    engine.add(range(300), most=3)
    engine.step()
    waiting = engine.add(range(1000, 1300))
    engine.step()

    assert engine.scheduler.waiting == [waiting]
    engine.run()
    assert waiting.tokens.tolist() == expected(range(1000, 1300), 4)


@pytest.mark.parametrize("saves", [True, False])
def test_sequences_that_outgrow_the_cache_make_room_and_come_back(saves: bool) -> None:
    engine = Engine(kv_size=512, context_length=512, n_batch=512, saves=saves)
    prompts = [range(1000 * i, 1000 * i + 50) for i in range(4)]
    sequences = [engine.add(prompt, most=200) for prompt in prompts]
    engine.run()

    assert engine.memory.saved > 0
    for sequence, prompt in zip(sequences, prompts, strict=True):
        assert sequence.tokens.tolist() == expected(prompt, 200)


def test_the_oldest_sequence_never_makes_room() -> None:
    engine = Engine(kv_size=512, context_length=512, n_batch=512)
    oldest = engine.add(range(50), most=300)
    for i in range(1, 4):
        engine.add(range(1000 * i, 1000 * i + 50), most=300)
    steps = 0
    while oldest in engine.most:
        engine.step()
        steps += 1

    assert steps == 300


def test_without_partial_reuse_only_whole_sequences_are_continued() -> None:
    engine = Engine(partial=False)
    first = engine.add(range(100), most=3)
    engine.run()
    whole = first.tokens[: first.length - 1].tolist()
    branching, going_on = engine.add([*range(90), 500]), engine.add([*whole, 501, 502])
    engine.run()

    assert (branching.cached, going_on.cached) == (0, len(whole))


def test_a_waiting_sequence_can_be_taken_back() -> None:
    engine = Engine(sequences=1)
    engine.add(range(20))
    waiting = engine.add(range(100, 120))
    engine.step()
    engine.finish(waiting)
    engine.run()

    assert waiting not in engine.begun


def test_a_long_prompt_can_be_taken_back_between_chunks() -> None:
    engine = Engine(n_batch=64)
    long = engine.add(range(500))
    engine.step()
    engine.finish(long)

    assert not engine.step()
    assert engine.scheduler.cache.ledger.live == 0


def test_live_cells_are_those_of_running_sequences() -> None:
    engine = Engine()
    sequence = engine.add(range(100), most=3)
    engine.step()
    ledger = engine.scheduler.cache.ledger

    assert ledger.live == sequence.computed == 100
    engine.run()
    assert ledger.live == 0
    assert ledger.free == ledger.total - engine.memory.used


def test_after_a_reset_waiting_sequences_still_run() -> None:
    engine = Engine(sequences=1)
    running, waiting = engine.add(range(20)), engine.add(range(100, 120))
    engine.step()
    engine.memory.sequences.clear()
    engine.scheduler.reset()
    del engine.most[running]
    engine.run()

    assert waiting.tokens.tolist() == expected(range(100, 120), 4)


def test_relieving_gives_up_kept_prefixes_first_then_the_youngest() -> None:
    engine = Engine(n_batch=512)
    engine.add(range(100), most=1)
    engine.run()
    old, young = engine.add(range(200, 300), most=9), engine.add(range(400, 500), most=9)
    engine.step()

    assert engine.scheduler.relieve()
    assert engine.scheduler.running == [old, young]
    assert engine.scheduler.relieve()
    assert engine.scheduler.running == [old]
    assert not engine.scheduler.relieve()
    engine.run()
    assert young.tokens.tolist() == expected(range(400, 500), 9)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_everything_ends_with_its_own_tokens(seed: int) -> None:
    rng = random.Random(seed)
    unified, sequences = rng.random() < 0.5, rng.randint(1, 6)
    engine = Engine(
        sequences=sequences,
        kv_size=rng.choice([256, 512, 2048]) if unified else 256 * sequences,
        context_length=256,
        unified=unified,
        store_bytes=rng.choice([0, 3000, 100_000]),
        n_batch=rng.choice([80, 128, 512]),
        partial=rng.random() < 0.8,
        saves=rng.random() < 0.8,
    )
    shares = [None]
    if rng.random() < 0.7:
        shares = [Share(name=name, others=rng.randint(0, 2)) for name in "abcd"]
        shares.append(Share(name="nightly", priority=10))
    stems = [[rng.randrange(900) for _ in range(120)] for _ in range(3)]
    alive: dict[Sequence, tuple[list[int], int]] = {}
    for _ in range(20):
        for _ in range(rng.randint(0, 3)):
            stem = rng.choice(stems)[: rng.randint(1, 120)]
            prompt = [*stem, *(rng.randrange(900) for _ in range(rng.randint(1, 60)))]
            most = rng.randint(1, 256 - len(prompt))
            sequence = engine.add(
                prompt,
                most=most,
                priority=rng.randint(0, 1),
                salt=rng.choice([None, "a"]),
                stride=rng.choice([1, 64]),
                share=rng.choice(shares),
            )
            alive[sequence] = (prompt, most)
        engine.step(stopped=rng.random() < 0.1)
        while rng.random() < 0.5 and engine.scheduler.cache.store_ahead():
            engine.check()
        open_ones = list(engine.most)
        if open_ones and rng.random() < 0.2:
            gone = rng.choice(open_ones)
            engine.finish(gone)
            del alive[gone]
    engine.run(limit=20_000)

    for sequence, (prompt, most) in alive.items():
        assert sequence.tokens.tolist() == expected(prompt, most)
    assert engine.scheduler.cache.ledger.live == 0


MANY, LONE = Share(name="many", others=9), Share(name="lone")


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("sequences", [1, 2, 4])
def test_a_running_sequence_gives_way_at_once_and_goes_on_as_before(
    sequences: int, unified: bool
) -> None:
    engine = Engine(sequences=sequences, unified=unified)
    prompts = [range(100 * i, 100 * i + 20) for i in range(sequences)]
    many = [engine.add(prompt, most=30, priority=1, share=MANY) for prompt in prompts]
    for _ in range(4):
        engine.step()
    lone = engine.add(range(5000, 5040), most=5, share=LONE)
    plan = engine.step()

    assert [(c.sequence, c.last) for c in plan.chunks] == [(lone, True)]
    assert [s for s in many if s.seq < 0] == [many[-1]]
    read = many[-1].computed
    assert read > 20
    for _ in range(4):
        engine.step()
    assert lone.length == 45
    engine.step()
    assert many[-1].computed == read + 1
    engine.run()
    for sequence, prompt in zip(many, prompts, strict=True):
        assert sequence.tokens.tolist() == expected(prompt, 30)
        assert sequence.saved is None
    assert engine.scheduler.cache.store.lent == 0


def test_a_place_that_is_free_is_not_enough_where_the_cells_are_not() -> None:
    engine = Engine(sequences=4, kv_size=512, context_length=512)
    long = [range(1000 * i, 1000 * i + 180) for i in range(2)]
    many = [engine.add(prompt, most=50, priority=1, share=MANY) for prompt in long]
    for _ in range(8):
        engine.step()
    lone = engine.add(range(5000, 5080), most=5, share=LONE)
    engine.step()

    assert engine.scheduler.running == [lone, many[0]]
    engine.run()
    assert lone.tokens.tolist() == expected(range(5000, 5080), 5)
    assert [s.tokens.tolist() for s in many] == [expected(prompt, 50) for prompt in long]


def test_a_row_of_newcomers_does_not_hold_up_what_gave_way_for_good() -> None:
    engine = Engine(sequences=1)
    long = engine.add(range(300), most=40, priority=1, share=MANY)
    newcomers = 0
    while long in engine.most:
        if len(engine.most) == 1:
            engine.add(range(5000, 5040), most=5, share=LONE)
            newcomers += 1
        engine.step()

    assert long.tokens.tolist() == expected(range(300), 40)
    assert 10 < newcomers < 100


def test_two_long_answers_have_the_only_place_by_turns() -> None:
    engine = Engine(sequences=1)
    a, b = (engine.add(range(i, i + 20), most=60, share=Share(name=f"{i}")) for i in (0, 50))
    turns: list[Sequence] = []
    while plan := engine.step():
        [now] = plan.singles or [chunk.sequence for chunk in plan.chunks]
        if now not in turns[-1:]:
            turns.append(now)

    assert turns[:4] == [a, b, a, b]
    assert 8 <= len(turns) <= 16
    assert [a.tokens.tolist(), b.tokens.tolist()] == [
        expected(range(20), 60),
        expected(range(50, 70), 60),
    ]


def test_a_prompt_that_is_half_read_goes_on_where_it_was() -> None:
    engine = Engine(sequences=1, n_batch=128)
    long = engine.add(range(500), share=MANY, priority=1)
    engine.step()
    engine.add(range(600, 640), most=1, share=LONE)
    engine.step()

    assert long.computed == 128
    engine.step()
    assert long.computed == 256
    engine.run()
    assert long.tokens.tolist() == expected(range(500), 4)


def test_what_cannot_be_saved_is_computed_again_and_gives_way_once() -> None:
    engine = Engine(sequences=1, saves=False)
    long = engine.add(range(100), most=20, priority=1, share=MANY)
    for _ in range(5):
        engine.step()
    engine.add(range(600, 640), most=1, share=LONE)
    engine.step()
    second = engine.add(range(700, 740), most=1, share=LONE)
    engine.step()
    assert second.computed == 40  # it was next before the other came back
    engine.step()
    engine.add(range(800, 840), most=1, share=LONE)
    engine.step()

    assert long.seq >= 0
    engine.run()
    assert long.tokens.tolist() == expected(range(100), 20)


def test_states_of_those_that_gave_way_take_room_of_the_store() -> None:
    engine = Engine(sequences=1, store_bytes=2000)
    engine.add(range(100), most=1)  # 1.2 kB in the store
    engine.run()
    long = engine.add(range(1000, 1200), most=40, priority=1, share=MANY)
    for _ in range(5):
        engine.step()
    store = engine.scheduler.cache.store
    assert (len(store), store.lent) == (1, 0)
    engine.add(range(600, 640), most=20, share=LONE)
    engine.step()

    assert long.saved is not None
    assert store.lent == len(long.saved) > 800
    assert len(store) == 0
    engine.scheduler.finish(long)
    assert store.lent == 0


def test_a_second_state_beyond_the_store_is_given_up() -> None:
    engine = Engine(sequences=1, store_bytes=1000)
    keys = [Share(name=name) for name in "abc"]
    made = [
        engine.add(range(1000 * i, 1000 * i + 180), most=20, share=share)
        for i, share in enumerate(keys[:1])
    ]
    for _ in range(4):
        engine.step()
    for i, share in enumerate(keys[1:], 1):
        made.append(engine.add(range(1000 * i, 1000 * i + 180), most=20, share=share))
        for _ in range(3):
            engine.step()

    assert [s.saved is not None for s in made] == [True, False, False]
    assert [s.stays for s in made] == [False, True, False]
    engine.run()
    assert [s.tokens.tolist() for s in made] == [
        expected(range(1000 * i, 1000 * i + 180), 20) for i in range(3)
    ]


def test_after_a_stop_a_prompt_is_read_in_pieces_that_are_whole_tiles() -> None:
    engine = Engine(sequences=1, n_batch=512)
    long = engine.add(range(350), share=MANY)
    engine.step(stopped=True)
    counts = [engine.step().chunks[0].count for _ in range(5)]

    assert counts == [64, 64, 64, 64, 94]
    engine.run()
    assert long.tokens.tolist() == expected(range(350), 4)


def test_conversations_that_left_the_slots_are_resumed_from_the_store() -> None:
    engine = Engine(sequences=2, store_bytes=100_000)
    firsts = [engine.add(range(1000 * i, 1000 * i + 100)) for i in range(1, 7)]
    engine.run()
    nexts = [engine.add([*first.tokens.tolist(), 7, 8, 9]) for first in firsts]
    engine.run()

    assert [s.cached for s in nexts] == [first.length - 1 for first in firsts]
    for sequence in nexts:
        prompt = sequence.tokens[: sequence.prompt_length].tolist()
        assert sequence.tokens.tolist() == expected(prompt, 4)


def test_a_slot_that_must_be_stored_first_is_taken_last() -> None:
    engine = Engine(sequences=3, unified=False, store_bytes=100_000, least_copy=8)
    first = engine.add(range(100))
    engine.run()
    # Its first tokens are copied into an empty slot: nothing is saved, nothing lost.
    second = engine.add([*range(8), *range(200, 260)])
    engine.run()
    third = engine.add([*range(8), *range(300, 360)])
    engine.run()
    assert (second.cached, third.cached) == (8, 8)
    assert engine.memory.saved == 0
    # What goes on keeps its slot.
    again = engine.add([*first.tokens.tolist(), 7])
    engine.run()
    assert again.cached == first.length - 1
    assert engine.memory.saved == 0
    # Of slots that all must be stored, that with the prefix is taken.
    engine.add([*range(8), *range(400, 460)])
    engine.run()
    assert engine.memory.saved == 1


def test_what_was_stored_while_nothing_ran_is_not_saved_again_when_its_slot_is_taken() -> None:
    engine = Engine(sequences=1, store_bytes=100_000)
    cache = engine.scheduler.cache
    firsts = [engine.add(range(1000 * i, 1000 * i + 100)) for i in range(1, 4)]
    engine.run()  # the states of all but the last have moved, so how large they are is known
    assert engine.memory.saved == 2

    assert cache.store_ahead()
    assert not cache.store_ahead()
    assert engine.memory.saved == 3
    engine.add(range(9000, 9100))
    engine.run()
    assert engine.memory.saved == 3
    again = engine.add([*firsts[2].tokens.tolist(), 7])
    engine.run()
    assert again.cached == firsts[2].length - 1


def test_a_state_that_takes_long_to_store_waits_until_its_slot_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(sequences=1, store_bytes=100_000)
    engine.add(range(1000, 1100))
    engine.add(range(2000, 2100))
    engine.run()
    monkeypatch.setattr("jarvis_llamacpp.cache.MOST_AHEAD", 300)
    assert not engine.scheduler.cache.store_ahead()


def test_after_prefixes_are_forgotten_neither_slots_nor_the_store_have_any() -> None:
    engine = Engine(sequences=2, store_bytes=100_000)
    firsts = [engine.add(range(1000 * i, 1000 * i + 100)) for i in range(1, 7)]
    engine.run()
    engine.scheduler.forget_prefixes()

    assert engine.memory.used == 0
    nexts = [engine.add([*first.tokens.tolist(), 7, 8, 9]) for first in firsts]
    engine.run()
    assert [s.cached for s in nexts] == [0] * 6


def test_what_ran_when_prefixes_were_forgotten_goes_on_and_nobody_reuses_it() -> None:
    engine = Engine(sequences=4, n_batch=64)
    reading, writing = engine.add(range(400)), engine.add(range(1000, 1040), most=60)
    for _ in range(4):
        engine.step()
    led = engine.add([*range(400), 7])
    engine.step()
    engine.scheduler.forget_prefixes()
    others = [engine.add([*range(400), 8]), engine.add([*range(1000, 1040), 9])]
    engine.run()

    assert reading.tokens.tolist() == expected(range(400), 4)
    assert writing.tokens.tolist() == expected(range(1000, 1040), 60)
    # What is computed from then on is a prefix like any other: one of these reads it for both.
    assert sorted([led.cached, others[0].cached]) == [0, 400]
    assert others[1].cached == 0


def test_what_made_room_when_prefixes_were_forgotten_comes_back() -> None:
    engine = Engine(kv_size=512, context_length=512, n_batch=512)
    prompts = [range(1000 * i, 1000 * i + 50) for i in range(4)]
    sequences = [engine.add(prompt, most=200) for prompt in prompts]
    while not any(sequence.saved is not None for sequence in sequences):
        engine.step()
    engine.scheduler.forget_prefixes()
    engine.run()

    for sequence, prompt in zip(sequences, prompts, strict=True):
        assert sequence.tokens.tolist() == expected(prompt, 200)
    assert engine.memory.used == 0


def test_without_a_store_only_what_slots_hold_is_resumed() -> None:
    engine = Engine(sequences=2)
    firsts = [engine.add(range(1000 * i, 1000 * i + 100)) for i in range(1, 7)]
    engine.run()
    again = engine.add([*firsts[0].tokens.tolist(), 7])
    engine.run()

    assert again.cached == 0


def test_stored_sequences_stay_within_their_salt_and_stride() -> None:
    engine = Engine(sequences=1, store_bytes=100_000)
    engine.add(range(150), salt="a")
    engine.add(range(1000, 1100))
    engine.run()
    other = engine.add(range(150), salt="b")
    engine.run()
    seeded = engine.add(range(150), salt="a", stride=64)
    engine.run()

    assert (other.cached, seeded.cached) == (0, 128)


def test_idle_sequences_leave_shared_cells_to_those_that_run() -> None:
    engine = Engine(sequences=8, store_bytes=1_000_000, context_length=1024, kv_size=8192)
    for i in range(8):
        engine.add(range(1000 * i, 1000 * i + 400))
    engine.run()
    ledger = engine.scheduler.cache.ledger

    assert ledger.idle <= MOST_IDLE
    assert len(engine.scheduler.cache.store) == 6


def test_where_no_cells_are_shared_a_prefix_is_copied() -> None:
    engine = Engine(unified=False)
    leader = engine.add(range(100), most=30)
    engine.step()
    follower = engine.add([*range(90), *range(200, 220)], most=30)
    engine.step()

    assert follower.cached == 90
    assert engine.memory.used == leader.computed + follower.computed
    engine.run()


def test_where_no_cells_are_shared_a_short_prefix_is_copied_too() -> None:
    engine = Engine(unified=False)
    engine.add(range(40), most=2)
    engine.run()
    writers = [engine.add(range(1000 * i, 1000 * i + 30), most=30) for i in (1, 2, 3)]
    engine.step()
    engine.finish(writers[1])
    again = engine.add(range(40), most=2)
    engine.step()

    assert (again.cached, again.seq) == (39, 2)
    engine.run()


def test_where_no_cells_are_shared_a_long_sequence_is_not_copied_for_a_few_tokens() -> None:
    engine = Engine(unified=False, context_length=4096, kv_size=4 * 4096, n_batch=4096)
    engine.add(range(4000), most=30)
    engine.step()
    little = engine.add([*range(40), *range(9000, 9010)])
    much = engine.add([*range(80), *range(8000, 8010)])
    engine.step()

    assert (little.cached, much.cached) == (0, 80)
    engine.run()


def test_where_no_cells_are_shared_every_slot_takes_a_whole_context() -> None:
    engine = Engine(sequences=3, unified=False, kv_size=3 * 512, context_length=512, n_batch=512)
    prompts = [range(1000 * i, 1000 * i + 500) for i in range(3)]
    sequences = [engine.add(prompt, most=12) for prompt in prompts]
    engine.step()

    assert len(engine.scheduler.running) == 3
    engine.run()
    assert engine.memory.saved == 0
    for sequence, prompt in zip(sequences, prompts, strict=True):
        assert sequence.tokens.tolist() == expected(prompt, 12)


def test_a_gap_between_running_sequences_is_filled_by_the_next_request() -> None:
    engine = Engine(sequences=4, unified=False)
    sequences = [engine.add(range(100 * i, 100 * i + 20), most=60) for i in range(3)]
    engine.step()
    engine.finish(sequences[1])
    fourth = engine.add(range(500, 520), most=60)
    engine.step()

    assert sorted(s.seq for s in engine.scheduler.running) == [0, 1, 2]
    assert fourth.seq == 1
    engine.run()


def test_a_gap_that_stays_is_closed_and_the_text_is_the_same() -> None:
    engine = Engine(sequences=4, unified=False, store_bytes=100_000)
    prompts = [range(100 * i, 100 * i + 20) for i in range(4)]
    sequences = [engine.add(prompt, most=60) for prompt in prompts]
    engine.step()
    engine.finish(sequences[1])
    for _ in range(PATIENCE + 1):
        engine.step()

    assert sorted(s.seq for s in engine.scheduler.running) == [0, 1, 2]
    assert engine.scheduler.cache.store.holds(sequences[1].tokens[:20], None)
    engine.run()
    for at in (0, 2, 3):
        assert sequences[at].tokens.tolist() == expected(prompts[at], 60)


# -- adapters and scored prompts -------------------------------------------------------------


def test_a_step_is_of_one_adapter_and_each_gets_its_turns() -> None:
    engine = Engine(sequences=4)
    names = [None, "red", None, "blue"]
    made = [engine.add(range(50 * i, 50 * i + 20), most=30) for i in range(4)]
    for sequence, name in zip(made, names, strict=True):
        sequence.adapter = name
    turns: list[str | None] = []
    while plan := engine.step():
        found = {s.adapter for s in [*plan.singles, *(c.sequence for c in plan.chunks)]}
        assert found == {plan.adapter}
        turns.append(plan.adapter)

    assert all(sequence.length == 50 for sequence in made)
    first = [turns.index(name) for name in ("red", "blue", None)]
    assert max(first) <= 2 * ADAPTER_TURNS
    together = turns[: turns.index("red") + ADAPTER_TURNS]
    assert together == [None] * ADAPTER_TURNS + ["red"] * ADAPTER_TURNS


def test_prompts_whose_tokens_are_scored_are_read_in_small_chunks_beside_others() -> None:
    engine = Engine(n_batch=256)
    scored = [engine.add(range(1000 * i, 1000 * i + 100)) for i in range(2)]
    for sequence in scored:
        sequence.scored = True
    other = engine.add(range(5000, 5200))
    while plan := engine.step():
        rows = sum(c.count for c in plan.chunks if c.sequence.scored)
        assert rows <= SCORED_ROWS
    assert [s.length for s in (*scored, other)] == [104, 104, 204]
