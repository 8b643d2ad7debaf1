"""Who has come alone is read first, without vLLM: a scheduler of its kind plans the steps."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any

from attrs import define, field

from jarvis_core import Share
from jarvis_vllm.lone_first import LoneFirst, shared_by

BUDGET, PLACES = 100, 4


class Status(Enum):
    WAITING = 1
    BLOCKED = 2


@define(eq=False)
class Request:
    """A request as vLLM's scheduler has it."""

    request_id: str
    num_tokens: int
    others: int | None
    priority: int = 0
    status: Status = Status.WAITING
    num_computed_tokens: int = 0
    is_prefill_chunk: bool = False
    sampling_params: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        share = None if self.others is None else Share(name="x", others=self.others)
        args = None if share is None else shared_by(share)
        self.sampling_params = SimpleNamespace(extra_args=args)

    def __lt__(self, other: Request) -> bool:
        return self.priority < other.priority


class Plan(dict[str, int]):
    """Tokens of each request in a step."""

    @property
    def num_scheduled_tokens(self) -> Plan:
        return self

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.values())


class Queue:
    """The most urgent first."""

    def __init__(self) -> None:
        self.heap: list[Request] = []

    def add(self, request: Request) -> None:
        heapq.heappush(self.heap, request)

    def peek_request(self) -> Request:
        return self.heap[0]

    def pop_request(self) -> Request:
        return heapq.heappop(self.heap)

    def __len__(self) -> int:
        return len(self.heap)

    def __iter__(self) -> Iterator[Request]:
        return iter(sorted(self.heap))


class Scheduler:
    """Plans as vLLM's does: what runs in its order, then what waits, as far as the budget goes."""

    def __init__(self) -> None:
        self.running: list[Request] = []
        self.waiting = Queue()
        self.max_num_scheduled_tokens = BUDGET
        self.num_spec_tokens = 0
        self.has_room = True
        self.scheduler_config = SimpleNamespace(max_num_seqs=PLACES)

    def schedule(self) -> Plan:
        budget, plan = self.max_num_scheduled_tokens, Plan()
        blocked = []
        for request in self.running:
            budget -= self._compute(request, budget, plan)
        while self.has_room and self.waiting and budget and len(self.running) < PLACES:
            request = self.waiting.pop_request()
            if request.status is not Status.WAITING:
                blocked.append(request)
                continue
            self.running.append(request)
            budget -= self._compute(request, budget, plan)
        for request in blocked:
            self.waiting.add(request)
        return plan

    def update_from_output(self, scheduler_output: Plan) -> str:
        return f"{len(scheduler_output)} updated"

    def _compute(self, request: Request, budget: int, plan: Plan) -> int:
        count = min(budget, max(1, request.num_tokens - request.num_computed_tokens))
        if count:
            plan[request.request_id] = count
        request.num_computed_tokens += count
        request.is_prefill_chunk = request.num_computed_tokens < request.num_tokens
        return count


class LoneFirstScheduler(LoneFirst, Scheduler):
    """Both; it plans a step when the one before it is done."""


class AheadScheduler(LoneFirstScheduler):
    """Plans a step while the one before it is computed."""

    plans_ahead = True


def engine(*requests: Request) -> LoneFirstScheduler:
    scheduler = LoneFirstScheduler()
    for request in requests:
        scheduler.waiting.add(request)
    return scheduler


def crowd(count: int, tokens: int) -> list[Request]:
    return [Request(f"crowd {i}", tokens, others=9, priority=i + 1) for i in range(count)]


def test_prompts_of_a_crowd_pause_for_one_step() -> None:
    scheduler = engine(*crowd(2, 350))
    assert scheduler.schedule() == {"crowd 0": 100}
    scheduler.waiting.add(Request("lone", 30, others=0))
    assert scheduler.schedule() == {"lone": 30}
    assert scheduler.schedule() == {"lone": 1, "crowd 0": 99}
    assert [r.request_id for r in scheduler.running] == ["lone", "crowd 0"]


def test_nothing_that_waits_fills_the_step_of_a_newcomer() -> None:
    scheduler = engine(*crowd(3, 40), Request("lone", 20, others=0))
    assert scheduler.schedule() == {"lone": 20}
    assert scheduler.schedule() == {"lone": 1, "crowd 0": 40, "crowd 1": 40, "crowd 2": 19}


def test_answers_go_on_beside_a_newcomer() -> None:
    scheduler = engine(*crowd(2, 10))
    scheduler.schedule()
    scheduler.waiting.add(Request("lone", 30, others=0))
    scheduler.waiting.add(Request("more", 50, others=9, priority=5))
    assert scheduler.schedule() == {"crowd 0": 1, "crowd 1": 1, "lone": 30}


def test_several_newcomers_are_read_together() -> None:
    scheduler = engine(*crowd(2, 350))
    scheduler.schedule()
    for name in "ab":
        scheduler.waiting.add(Request(name, 30, others=0))
    assert scheduler.schedule() == {"a": 30, "b": 30}


def test_nobody_pauses_for_what_takes_more_than_a_step() -> None:
    scheduler = engine(*crowd(1, 250))
    scheduler.schedule()
    scheduler.waiting.add(Request("lone", 101, others=0))
    assert scheduler.schedule() == {"crowd 0": 100}


def test_without_a_crowd_or_keys_nothing_is_planned_differently() -> None:
    alone = [Request(name, 60, others=0) for name in "ab"]
    assert engine(*alone).schedule() == {"a": 60, "b": 40}
    unshared = [Request(name, 60, others=None) for name in "ab"]
    assert engine(*unshared).schedule() == {"a": 60, "b": 40}


def test_what_cannot_begin_holds_nobody_up() -> None:
    scheduler = engine(*crowd(1, 350))
    scheduler.schedule()
    scheduler.waiting.add(Request("lone", 30, others=0, status=Status.BLOCKED))
    assert scheduler.schedule() == {"crowd 0": 100}


def test_others_pause_once_only_for_a_newcomer_that_does_not_begin() -> None:
    scheduler = engine(*crowd(1, 350))
    scheduler.schedule()
    scheduler.waiting.add(Request("lone", 30, others=0))
    scheduler.has_room = False
    assert scheduler.schedule() == {}
    assert scheduler.schedule() == {"crowd 0": 100}


def test_with_every_place_taken_nobody_pauses() -> None:
    scheduler = engine(*crowd(PLACES, 30))
    scheduler.schedule()
    scheduler.waiting.add(Request("lone", 30, others=0))
    assert scheduler.schedule() == {"crowd 0": 1, "crowd 1": 1, "crowd 2": 1, "crowd 3": 20}


def ahead(*requests: Request) -> AheadScheduler:
    scheduler = AheadScheduler()
    for request in requests:
        scheduler.waiting.add(request)
    return scheduler


def test_nothing_is_planned_behind_a_long_step_for_a_crowd() -> None:
    scheduler = ahead(*crowd(1, 350))
    step = scheduler.schedule()
    assert step == {"crowd 0": 100}
    nothing = scheduler.schedule()
    assert nothing == {}
    scheduler.waiting.add(Request("lone", 30, others=0))
    assert scheduler.update_from_output(step) == "1 updated"
    assert scheduler.schedule() == {"lone": 30}
    assert scheduler.max_num_scheduled_tokens == BUDGET


def test_planning_goes_on_ahead_of_short_steps_and_where_nobody_shares() -> None:
    short = ahead(*crowd(1, 25))
    assert [short.schedule(), short.schedule()] == [{"crowd 0": 25}, {"crowd 0": 1}]
    for others in (None, 0):
        unshared = ahead(Request("a", 350, others=others))
        assert [unshared.schedule(), unshared.schedule()] == [{"a": 100}, {"a": 100}]
