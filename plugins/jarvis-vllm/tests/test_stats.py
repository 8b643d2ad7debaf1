from __future__ import annotations

from types import SimpleNamespace

from jarvis_core import EngineStats, Usage
from jarvis_vllm.stats import Counters


def scheduler(running: int, usage: float) -> SimpleNamespace:
    return SimpleNamespace(num_running_reqs=running, kv_cache_usage=usage)


def test_what_vllm_reports_counts_while_something_is_open() -> None:
    counters = Counters(kv_total=1000)
    counters.begin(prompt_tokens=10, sequences=3)
    counters.step(0, scheduler(2, 0.25))
    counters.step(0, None)
    stats = counters.read()

    assert (stats.running, stats.waiting, stats.kv_used, stats.kv_total) == (2, 1, 250, 1000)
    counters.end(Usage(prompt_tokens=10, completion_tokens=6, cached_tokens=4), 3)
    assert counters.read() == EngineStats(
        kv_total=1000,
        prompt_tokens=10,
        cached_tokens=4,
        generation_tokens=6,
        prefix_queries=3,
        prefix_hits=1,
    )


def test_engine_processes_are_added_up() -> None:
    counters = Counters(kv_total=1000)
    counters.begin(prompt_tokens=1, sequences=8)
    counters.step(0, scheduler(2, 0.5))
    counters.step(1, scheduler(1, 0.0))
    stats = counters.read()

    assert (stats.running, stats.waiting, stats.kv_used) == (3, 5, 250)


def test_no_more_runs_than_is_open() -> None:
    counters = Counters()
    counters.begin(prompt_tokens=1, sequences=1)
    counters.step(0, scheduler(5, 0.0))

    assert (counters.read().running, counters.read().waiting) == (1, 0)


def test_metrics_of_vllm_are_passed_on() -> None:
    counters = Counters()
    counters.metrics = "vllm_x 1\n"

    assert counters.read().metrics == "vllm_x 1\n"
