"""Metrics: names, bounded labels, and sums that add up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jarvis_core.errors import EngineDied, QueueFull
from jarvis_core.http.metrics import Distribution
from jarvis_core.plugins import PluginReport
from jarvis_core.structs import ChatRequest, Delta, Usage

pytestmark = pytest.mark.anyio


async def scrape(served: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = (await served.client.get("/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Any, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    found = [v for (n, ls), v in samples.items() if n == name and wanted <= set(ls)]
    assert found, name
    return math.fsum(found)


def test_a_distribution_counts_into_buckets() -> None:
    distribution = Distribution((0.1, 1.0))
    distribution.observe(0.05)
    distribution.observe(0.1)
    distribution.observe(0.5, times=3)
    distribution.observe(2.0)
    assert distribution.buckets() == [("0.1", 2.0), ("1.0", 5.0), ("+Inf", 6.0)]
    assert distribution.sum == pytest.approx(3.65)


async def test_chats_are_counted_with_their_tokens_and_times(serve: Any) -> None:
    served = await serve()
    await served.chat("a b c")
    await served.chat("a b c", stream=True)
    samples = await scrape(served)
    of = {"model": "tiny", "engine": "fake"}
    assert value(samples, "jarvis_requests_total", status="ok", finish_reason="stop", **of) == 2
    assert value(samples, "jarvis_prompt_tokens_total", **of) == 14
    assert value(samples, "jarvis_prompt_tokens_cached_total", **of) == 6
    assert value(samples, "jarvis_generation_tokens_total", **of) == 6
    assert value(samples, "jarvis_time_to_first_token_seconds_count", **of) == 2
    assert value(samples, "jarvis_e2e_request_latency_seconds_count", **of) == 2
    assert value(samples, "jarvis_inter_token_latency_seconds_count", **of) == 6
    assert value(samples, "jarvis_http_requests_total", status="200") == 2


async def test_the_times_between_tokens_add_up_to_no_more_than_the_answer_took(
    serve: Any, kit: Any
) -> None:
    async def script(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        yield [Delta(content="a")]
        await asyncio.sleep(0.2)
        usage = Usage(prompt_tokens=1, completion_tokens=21)
        end = Delta(finish_reason="stop", usage=usage)
        yield [*[Delta(content="b")] * 20, end]

    model = kit.make_model()
    model.script = script
    served = await serve(model)
    began = perf_counter()
    await served.chat("a")
    took = perf_counter() - began
    gaps = value(await scrape(served), "jarvis_inter_token_latency_seconds_sum", model="tiny")
    assert 0.19 < gaps < took


async def test_the_queue_is_shown_by_position_and_time(serve: Any, kit: Any) -> None:
    model = kit.make_model()
    model.position, model.queued = 5, 0.3
    served = await serve(model)
    await served.chat()
    samples = await scrape(served)
    of = {"model": "tiny", "engine": "fake"}
    assert value(samples, "jarvis_request_queue_position_bucket", le="4", **of) == 0
    assert value(samples, "jarvis_request_queue_position_bucket", le="8", **of) == 1
    assert value(samples, "jarvis_request_queue_position_sum", **of) == 5
    assert value(samples, "jarvis_request_queue_time_seconds_sum", **of) == 0.3


async def test_what_is_accepted_is_ok_failed_aborted_or_expired(serve: Any, kit: Any) -> None:
    model = kit.make_model()
    served = await serve(model)
    await served.chat()

    async def failing(request: Any) -> Any:
        raise EngineDied("it died")
        yield []

    model.script = failing
    await served.chat()
    await served.chat(stream=True)
    samples = await scrape(served)
    assert value(samples, "jarvis_requests_total", status="ok") == 1
    assert value(samples, "jarvis_requests_total", status="failed") == 2


async def test_refusals_are_counted_by_reason(serve: Any) -> None:
    served = await serve()
    served.catalogue.lease_error = QueueFull("full")
    await served.chat()
    samples = await scrape(served)
    assert value(samples, "jarvis_requests_rejected_total", reason="queue_full") == 1
    assert value(samples, "jarvis_http_requests_total", status="503") == 1


async def test_models_are_shown_as_they_are(serve: Any) -> None:
    served = await serve()
    samples = await scrape(served)
    of = {"model": "tiny", "engine": "fake"}
    assert value(samples, "jarvis_requests_running", **of) == 2
    assert value(samples, "jarvis_requests_waiting", **of) == 1
    assert value(samples, "jarvis_kv_cache_usage_ratio", **of) == 0.25
    assert value(samples, "jarvis_prefix_cache_queries_total", **of) == 5
    assert value(samples, "jarvis_prefix_cache_hits_total", **of) == 2
    assert value(samples, "jarvis_model_memory_bytes", **of) == 12345
    assert value(samples, "jarvis_model_load_duration_seconds", **of) == 1.5
    assert value(samples, "jarvis_model_state", state="ready", **of) == 1
    assert value(samples, "jarvis_model_state", state="failed", **of) == 0
    assert value(samples, "jarvis_build_info") == 1


async def test_what_is_done_to_models_is_counted_by_what_it_is(serve: Any) -> None:
    served = await serve()
    for action in ("unload", "load", "load"):
        await served.client.post(f"/v1/models/tiny/{action}")
    samples = await scrape(served)
    path = "/v1/models/<name:path>"
    assert value(samples, "jarvis_http_requests_total", endpoint=f"{path}/unload") == 1
    assert value(samples, "jarvis_http_requests_total", endpoint=f"{path}/load") == 2


async def test_metrics_of_the_backend_itself_have_the_labels_of_their_model(serve: Any) -> None:
    served = await serve()
    samples = await scrape(served)
    of = {"model": "tiny", "engine": "fake"}
    assert value(samples, "fake_words_total", rank="1", **of) == 7


async def test_plugins_are_shown(serve: Any) -> None:
    served = await serve()
    served.front.metrics.add_plugins(
        [PluginReport(name="echo", distribution="jarvis-echo", version="1.2")]
    )
    samples = await scrape(served)
    assert value(samples, "jarvis_plugin_info", plugin="echo", version="1.2") == 1


async def test_labels_stay_bounded_whatever_clients_send(serve: Any) -> None:
    """S-09."""
    served = await serve()
    await served.client.get("/canary-path")
    await served.client.request("CANARY", "/v1/models")
    await served.client.get("/v1/models/canary-model")
    await served.chat(model="canary-model", user="canary-user")
    await served.client.get("/health/live", headers={"x-request-id": "canary-id"})
    before = len(await scrape(served))
    for i in range(20):
        await served.client.get(f"/canary-{i}")
        await served.chat("canary-text", model=f"canary-{i}")
    after = await scrape(served)
    assert len(after) <= before + 2
    assert "canary" not in (await served.client.get("/metrics")).text
