from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jarvis_core import Share
from jarvis_core.models.turns import GUESTS, Claim, Turn, Turns

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = (Claim(tenant=name, shared=True) for name in ("alice", "bob", "carol"))


class Line:
    """Requests that wait for turns; ``begun`` has the labels in the order of their turns."""

    def __init__(self, capacity: int) -> None:
        self.turns = Turns(lambda: capacity)
        self.begun: list[str] = []
        self.held: dict[str, Turn] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(
        self,
        label: str,
        claim: Claim,
        *,
        priority: int = 0,
        sequences: int = 1,
        guest: bool = False,
    ) -> None:
        async def wait() -> None:
            turn = await self.turns.take(claim, priority=priority, sequences=sequences, guest=guest)
            self.held[label] = turn
            self.begun.append(label)

        self.tasks[label] = asyncio.create_task(wait())
        await settle()

    async def end(self, label: str) -> None:
        self.turns.give(self.held.pop(label))
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def line() -> Callable[[int], Line]:
    return Line


async def test_without_keys_nobody_waits(line):
    queue = line(2)
    for i in range(10):
        await queue.ask(str(i), Claim())
    assert len(queue.begun) == 10


async def test_with_a_single_key_nobody_waits(line):
    queue = line(2)
    for i in range(10):
        await queue.ask(str(i), Claim(tenant="alice"))
    assert len(queue.begun) == 10


async def test_an_engine_of_unknown_size_is_sent_everything(line):
    queue = line(0)
    for i in range(10):
        await queue.ask(str(i), ALICE)
    assert len(queue.begun) == 10


async def test_a_burst_of_one_key_leaves_room_for_the_first_request_of_another(line):
    queue = line(16)
    for i in range(200):
        await queue.ask(f"a{i}", ALICE)
    assert len(queue.begun) == 14
    await queue.ask("b", BOB)
    await queue.ask("c", CAROL)
    assert queue.begun[14:] == ["b", "c"]


@pytest.mark.parametrize("places", [2, 3, 4])
async def test_a_small_engine_keeps_one_place_free_too(line, places):
    queue = line(places)
    for i in range(200):
        await queue.ask(f"a{i}", ALICE)
    assert len(queue.begun) == places - 1
    await queue.ask("b", BOB)
    assert queue.begun[places - 1 :] == ["b"]
    await queue.end("b")
    await queue.ask("b again", BOB)
    assert queue.begun[places:] == ["b again"]


async def test_on_an_engine_with_one_place_keys_take_turns(line):
    queue = line(1)
    for i in range(200):
        await queue.ask(f"a{i}", ALICE)
    await queue.ask("b", BOB)
    await queue.ask("c", CAROL)
    for label in ("a0", "b", "c"):
        await queue.end(label)
    assert queue.begun == ["a0", "b", "c", "a1"]


async def test_a_freed_place_goes_to_the_key_that_has_least(line):
    queue = line(5)
    for i in range(8):
        await queue.ask(f"a{i}", ALICE)
    for i in range(2):
        await queue.ask(f"b{i}", BOB)
    assert queue.begun == ["a0", "a1", "a2", "a3", "b0"]
    await queue.end("a0")
    await queue.end("a1")
    await queue.end("a2")
    assert queue.begun[5:] == ["b1", "a4"]


async def test_a_key_of_higher_priority_comes_first(line):
    queue = line(1)
    await queue.ask("a", ALICE)
    await queue.ask("b", BOB)
    await queue.ask("c", Claim(tenant="carol", priority=-1, shared=True))
    await queue.end("a")
    assert queue.begun == ["a", "c"]


async def test_priorities_order_the_requests_of_one_key_only(line):
    queue = line(1)
    await queue.ask("a", ALICE)
    await queue.ask("late", ALICE, priority=5)
    await queue.ask("soon", ALICE, priority=-5)
    await queue.ask("b", BOB, priority=9)
    for label in ("a", "b", "soon"):
        await queue.end(label)
    assert queue.begun == ["a", "b", "soon", "late"]


async def test_a_request_for_many_sequences_begins_with_those_that_fit(line):
    queue = line(8)
    for i in range(4):
        await queue.ask(f"a{i}", ALICE)
    await queue.ask("wide", BOB, sequences=5)
    await queue.ask("c", CAROL)
    assert queue.begun == ["a0", "a1", "a2", "a3", "wide", "c"]
    assert (queue.held["wide"].places, queue.held["wide"].missing) == (3, 2)


async def test_a_request_for_every_place_leaves_one_to_another_key(line):
    queue = line(4)
    await queue.ask("wide", ALICE, sequences=16)
    assert (queue.held["wide"].places, queue.held["wide"].missing) == (3, 13)
    await queue.ask("b", BOB)
    assert queue.begun == ["wide", "b"]


async def test_a_request_gets_further_places_before_later_ones_of_its_key(line):
    queue = line(4)
    await queue.ask("a", ALICE)
    await queue.ask("wide", ALICE, sequences=4)
    await queue.ask("late", ALICE)
    wide = queue.held["wide"]
    assert (wide.places, wide.missing) == (2, 2)
    more = asyncio.create_task(queue.turns.more(wide))
    await settle()
    assert not more.done()
    await queue.end("a")
    further = await more
    assert (further.places, further.missing) == (1, 1)
    assert queue.begun == ["a", "wide"]
    queue.turns.give(further)
    await queue.end("wide")
    assert queue.begun[2:] == ["late"]


async def test_a_request_of_another_key_comes_before_further_places(line):
    queue = line(2)
    await queue.ask("wide", ALICE, sequences=8)
    await queue.ask("b", BOB)
    more = asyncio.create_task(queue.turns.more(queue.held["wide"]))
    await queue.ask("b again", BOB)
    await queue.ask("c", CAROL)
    await queue.end("b")
    assert queue.begun == ["wide", "b", "c"]
    more.cancel()
    with pytest.raises(asyncio.CancelledError):
        await more
    for label in ("wide", "c", "b again"):
        await queue.end(label)
    assert queue.turns._lines == {}


async def test_who_leaves_the_line_makes_room(line):
    queue = line(1)
    await queue.ask("a", ALICE)
    await queue.ask("gone", BOB)
    await queue.ask("c", CAROL)
    queue.tasks["gone"].cancel()
    await settle()
    await queue.end("a")
    assert queue.begun == ["a", "c"]
    await queue.end("c")
    assert queue.turns._lines == {}


async def test_who_leaves_in_the_moment_of_the_turn_gives_it_back():
    turns = Turns(lambda: 1)
    first = await turns.take(ALICE)
    task = asyncio.create_task(turns.take(BOB))
    await settle()
    turns.give(first)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.wait_for(turns.take(CAROL), 5)).claim == CAROL


async def test_who_leaves_in_the_moment_before_the_turn_is_passed_over(line):
    queue = line(1)
    await queue.ask("a", ALICE)
    await queue.ask("gone", BOB)
    await queue.ask("c", CAROL)
    queue.tasks["gone"].cancel()
    await queue.end("a")
    assert queue.begun == ["a", "c"]
    await queue.end("c")
    assert queue.turns._lines == {}


async def test_the_engine_is_told_to_take_a_first_request_before_a_twentieth(line):
    queue = line(32)
    for i in range(20):
        await queue.ask(f"a{i}", ALICE)
    await queue.ask("b", BOB)
    first, last = queue.held["b"], queue.held["a19"]
    assert first.engine_priority(400) < last.engine_priority(-400)
    assert last.engine_priority(-400) < last.engine_priority(0)
    assert Turn(claim=Claim()).engine_priority(7) == 7


async def test_no_priority_of_a_request_carries_it_past_the_rank_of_another(line):
    queue = line(32)
    for i in range(2):
        await queue.ask(f"a{i}", ALICE)
    first, second = queue.held["a0"], queue.held["a1"]
    assert first.engine_priority(10**6) < second.engine_priority(-(10**6))


async def test_a_request_of_a_burst_is_less_urgent_than_a_single_one_on_small_engines_too(line):
    queue = line(2)
    for i in range(3):
        await queue.ask(f"a{i}", ALICE)
    await queue.ask("b", BOB)
    await queue.end("a0")
    single = queue.held["b"].engine_priority(0)
    assert queue.begun == ["a0", "b", "a1"]
    assert single < queue.held["a1"].engine_priority(0)


async def test_lines_of_keys_that_have_left_are_forgotten(line):
    queue = line(8)
    for i in range(100):
        label = f"k{i}"
        await queue.ask(label, Claim(tenant=label, shared=True))
        await queue.end(label)
    assert queue.turns._lines == {}


@pytest.mark.parametrize("places", [1, 2, 16])
async def test_a_key_that_has_nothing_at_a_full_engine_is_sent_as_a_guest(line, places):
    queue = line(places)
    for i in range(places + 4):
        await queue.ask(f"a{i}", ALICE, guest=True)
    for i in range(3):
        await queue.ask(f"k{i}", Claim(tenant=f"k{i}", shared=True), guest=True)
    before = len(queue.begun)
    await queue.ask("b", BOB, guest=True)
    assert queue.begun[before:] == ["b"]
    await queue.ask("b again", BOB, guest=True)
    assert queue.begun[before:] == ["b"]


async def test_a_guest_takes_no_place_of_others_once_it_has_ended(line):
    queue = line(1)
    for label in ("a0", "a1"):
        await queue.ask(label, ALICE, guest=True)
    await queue.ask("b", BOB, guest=True)
    await queue.end("b")
    assert queue.begun == ["a0", "b"]
    await queue.end("a0")
    assert queue.begun == ["a0", "b", "a1"]
    await queue.end("a1")
    assert queue.turns._lines == {}


async def test_a_request_that_may_be_no_guest_waits_for_a_place(line):
    queue = line(1)
    await queue.ask("a", ALICE, guest=True)
    await queue.ask("b", BOB)
    assert queue.begun == ["a"]


async def test_guests_are_few(line):
    queue = line(1)
    for i in range(GUESTS + 3):
        await queue.ask(f"k{i}", Claim(tenant=f"k{i}", shared=True), guest=True)
    assert len(queue.begun) == 1 + GUESTS
    await queue.end("k0")
    await queue.end("k1")
    assert len(queue.begun) == 3 + GUESTS


async def test_nobody_is_the_guest_of_more_urgent_keys_only(line):
    queue = line(1)
    nightly = Claim(tenant="nightly", priority=10, shared=True)
    await queue.ask("a", ALICE, guest=True)
    await queue.ask("n", nightly, guest=True)
    assert queue.begun == ["a"]
    await queue.end("a")
    await queue.ask("b", BOB, guest=True)
    assert queue.begun == ["a", "n", "b"]


async def test_nobody_is_the_guest_of_a_key_with_a_better_priority_than_the_usual(line):
    queue = line(1)
    await queue.ask("urgent", Claim(tenant="urgent", priority=-1, shared=True), guest=True)
    await queue.ask("a", ALICE, guest=True)
    assert queue.begun == ["urgent"]


async def test_a_wide_guest_begins_with_one_place(line):
    queue = line(2)
    await queue.ask("a", ALICE)
    await queue.ask("c", CAROL)
    await queue.ask("wide", BOB, sequences=5, guest=True)
    assert (queue.held["wide"].places, queue.held["wide"].missing) == (1, 4)


async def test_the_engine_is_told_whom_a_request_is_for_and_of_how_many_it_is(line):
    queue = line(2)
    for i in range(4):
        await queue.ask(f"a{i}", ALICE)
    nightly = Claim(tenant="nightly", priority=10, shared=True)
    await queue.ask("n", nightly)
    await queue.end("a0")
    assert queue.held["a1"].share == Share(name="alice", others=2)
    assert queue.held["n"].share == Share(name="nightly", priority=10)
    assert Turn(claim=Claim(tenant="alice")).share is None
