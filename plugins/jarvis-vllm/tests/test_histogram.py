from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from jarvis_vllm.histogram import observe_each

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25)


def histogram(registry: CollectorRegistry) -> Histogram:
    found = Histogram("gap_seconds", "Gaps.", ["model"], registry=registry, buckets=BUCKETS)
    return found.labels("m")


def shown(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("gap_seconds") and "created" not in name
    }


@pytest.mark.parametrize("count", [0, 1, 500])
def test_it_counts_what_single_observations_count(count: int) -> None:
    rng = random.Random(count)
    values = [rng.choice([rng.expovariate(20), *BUCKETS]) for _ in range(count)]
    together, alone = CollectorRegistry(), CollectorRegistry()
    observe_each(histogram(together), values)
    one_by_one = histogram(alone)
    for value in values:
        one_by_one.observe(value)

    assert len(shown(alone)) == len(BUCKETS) + 3
    assert shown(together) == pytest.approx(shown(alone))
