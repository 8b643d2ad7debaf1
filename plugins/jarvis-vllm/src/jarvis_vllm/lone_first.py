"""Reads the prompt of who has nothing else in work before those of who has a crowd.

vLLM reads on what it has begun before anything that waits, and then as much as fits into a step:
who comes alone finds the step filled with the prompts of others, for as many steps as a long one
of them takes. Here the prompts of crowds pause for the one step that reads a newcomer's. vLLM also
plans a step while the one before it is computed, which a newcomer finds planned: behind a long step
that reads a crowd's prompts nothing is planned ahead.

``Scheduler.schedule`` plans a step from ``running``, ``waiting`` and ``max_num_scheduled_tokens``,
in all versions from 0.26 to 0.32, and plans nothing where that is 0. This module does not import
vllm; ``schedulers.py`` joins both.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from jarvis_core import Share

_OTHERS = "jarvis_others"
"""Name in a request's ``extra_args``, which vLLM leaves to plugins."""

LONG = 4
"""A step that reads one in so many of the tokens that it may is long."""


def shared_by(share: Share) -> dict[str, int]:
    """What vLLM's scheduler is told of a share, as ``extra_args`` of sampling params."""
    return {_OTHERS: share.others}


class LoneFirst:
    """Comes before a ``Scheduler`` of vLLM in the bases of a class."""

    running: list[Any]
    waiting: Any
    max_num_scheduled_tokens: int
    num_spec_tokens: int
    scheduler_config: Any

    _newcomer: str | None = None  # the last for which others paused: once is enough
    _long: Any = None  # a long step for crowds that is computed

    @property
    def plans_ahead(self) -> bool:
        """Whether a step is planned while a single other one is computed."""
        return False

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Plan a step: without crowds where somebody has come alone, and none behind a long one."""
        most, paused = self.max_num_scheduled_tokens, []
        if self._long is not None:
            self.max_num_scheduled_tokens = 0
        elif newcomers := self._newcomers():
            paused = self._make_way(newcomers)
        try:
            plan = super().schedule(*args, **kwargs)  # type: ignore[misc]
        finally:
            self.max_num_scheduled_tokens = most
            # Behind the newcomer, which would else wait for them if its prompt is not read yet.
            self.running = [*self.running, *paused] if paused else self.running
        read = plan.total_num_scheduled_tokens - len(plan.num_scheduled_tokens)
        if self.plans_ahead and read * LONG > most and any(map(_is_of_crowd, self.running)):
            self._long = plan
        return plan

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        """Take what a step has computed."""
        if scheduler_output is self._long:
            self._long = None
        return super().update_from_output(scheduler_output, *args, **kwargs)  # type: ignore[misc]

    def _make_way(self, newcomers: list[Any]) -> list[Any]:
        """Leave a step to newcomers and to answers that go on; returns the prompts that pause."""
        paused = [r for r in self.running if r.is_prefill_chunk and not _is_lone(r)]
        if not paused and len(self.waiting) == len(newcomers):
            return []
        going_on = [r for r in self.running if r not in paused]
        tokens = sum(map(_length, newcomers)) + sum(map(self._wants, going_on))
        if tokens > self.max_num_scheduled_tokens:
            return []  # that takes many steps anyway, and nobody is to pause for so long
        self._newcomer = newcomers[0].request_id
        self.running, self.max_num_scheduled_tokens = going_on, tokens
        return paused

    def _newcomers(self) -> list[Any]:
        """Who has come alone, is next and could be read; none if others have paused for that."""
        if not self.waiting:
            return []
        first = self.waiting.peek_request()
        full = len(self.running) >= self.scheduler_config.max_num_seqs
        if full or not _may_begin(first) or first.request_id == self._newcomer:
            return []
        return list(takewhile(_may_begin, self.waiting))

    def _wants(self, request: Any) -> int:
        """Tokens that a running request gets in a step."""
        left = request.num_tokens - request.num_computed_tokens
        return max(1 + self.num_spec_tokens, int(left))


def _others(request: Any) -> int | None:
    """The other sequences of who a request is for, None where nothing is shared."""
    params = request.sampling_params
    extra = (None if params is None else params.extra_args) or {}
    others: int | None = extra.get(_OTHERS)
    return others


def _is_lone(request: Any) -> bool:
    return _others(request) == 0


def _is_of_crowd(request: Any) -> bool:
    return bool(_others(request))


def _may_begin(request: Any) -> bool:
    """Whether a request that waits is lone, and for nothing but its turn."""
    return _is_lone(request) and request.status.name == "WAITING"


def _length(request: Any) -> int:
    return int(request.num_tokens)
