"""The numbers of one engine, from what vLLM reports and what passes through."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from jarvis_core import EngineStats, Usage
from jarvis_vllm.pace import StepClock


class Counters:
    """Gauges and counters.

    vLLM reports its scheduler's numbers with every step, and no more once nothing is left to do. So
    what is in work is counted here, and its numbers are believed only while something is.

    Args:
        kv_total: Tokens that the KV cache holds.

    Attributes:
        metrics: vLLM's own metrics as Prometheus text.
        open: Sequences in work.
        steps: How long steps take.
    """

    def __init__(self, kv_total: int = 0) -> None:
        self.kv_total = kv_total
        self.metrics = ""
        self.open = 0
        self.steps = StepClock()
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._generation_tokens = 0
        self._queries = 0
        self._hits = 0
        self._schedulers: dict[int, tuple[int, float]] = {}

    def step(self, engine: int, scheduler: Any) -> None:
        """An engine process has sent something.

        Args:
            engine: Its number.
            scheduler: vLLM's ``SchedulerStats``, or None.
        """
        if scheduler is not None:
            self._schedulers[engine] = (scheduler.num_running_reqs, scheduler.kv_cache_usage)
            if engine == min(self._schedulers):
                self.steps.tick(perf_counter())

    def begin(self, prompt_tokens: int, sequences: int) -> None:
        """A request was taken."""
        self.open += sequences
        self._prompt_tokens += prompt_tokens
        self._queries += sequences

    def end(self, usage: Usage, sequences: int) -> None:
        """A request has ended."""
        self.open -= sequences
        self._generation_tokens += usage.completion_tokens
        self._cached_tokens += usage.cached_tokens
        self._hits += usage.cached_tokens > 0

    def read(self) -> EngineStats:
        """The numbers now."""
        running = usage = 0.0
        if self.open:
            for its_running, its_usage in self._schedulers.values():
                running += its_running
                usage += its_usage / len(self._schedulers)
        running = min(self.open, int(running))
        return EngineStats(
            running=running,
            waiting=self.open - running,
            kv_used=round(usage * self.kv_total),
            kv_total=self.kv_total,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generation_tokens=self._generation_tokens,
            prefix_queries=self._queries,
            prefix_hits=self._hits,
            metrics=self.metrics,
        )
