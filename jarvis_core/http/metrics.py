"""What the server counts, as Prometheus text.

Labels hold configured names and route templates only: no key, no text, no id, so their number is
bounded. Gauges are read from the catalogue when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from jarvis_core.http.exchange import Exchange
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.status import ModelState, ModelStatus
from jarvis_core.plugins import PluginReport

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
POSITIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double what is sent

_MODEL = ("model", "engine")
_PLUGIN = ("plugin", "distribution")


class Distribution:
    """How often a value fell into which bucket; cheap enough for every chunk of every stream."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and number of values up to it, for each bucket."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))

    @property
    def sum(self) -> float:
        """Sum of all values."""
        return self._sum


class Histogram(Collector):
    """A ``Distribution`` for each model."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._bounds = name, text, bounds
        self._of: dict[tuple[str, str], Distribution] = {}

    def of(self, model: str, engine: str) -> Distribution:
        """The distribution of one model."""
        found = self._of.get((model, engine))
        if found is None:
            found = self._of[model, engine] = Distribution(self._bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """The family."""
        family = HistogramMetricFamily(self._name, self._text, labels=_MODEL)
        for labels, distribution in self._of.items():
            family.add_metric(labels, distribution.buckets(), distribution.sum)
        yield family


class Metrics:
    """Everything that is counted, in a registry of its own.

    Attributes:
        registry: For ``generate_latest``.
        inter_token: Seconds between two tokens of a stream.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"jarvis_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            made = Histogram(f"jarvis_{name}", text, bounds)
            registry.register(made)
            return made

        self._http = counter("http_requests", "Requests by route and status.", "endpoint", "status")
        self._requests = counter(
            "requests",
            "Requests that an engine accepted, by how they ended.",
            *_MODEL,
            "endpoint",
            "status",
            "finish_reason",
        )
        self._rejected = counter(
            "requests_rejected", "Requests refused for want of room or time.", "reason"
        )
        self._prompt = counter("prompt_tokens", "Tokens of prompts.", *_MODEL)
        self._cached = counter(
            "prompt_tokens_cached", "Tokens of prompts found in a prefix cache.", *_MODEL
        )
        self._generated = counter("generation_tokens", "Tokens generated.", *_MODEL)
        self._queue_position = histogram(
            "request_queue_position",
            "Requests of the same key that waited for the model when one came.",
            POSITIONS,
        )
        self._queue_time = histogram(
            "request_queue_time_seconds", "Seconds until a request had its turn.", SECONDS
        )
        self._first_token = histogram(
            "time_to_first_token_seconds", "Seconds until the first text.", SECONDS
        )
        self._latency = histogram(
            "e2e_request_latency_seconds", "Seconds until the answer was whole.", SECONDS
        )
        self.inter_token = histogram(
            "inter_token_latency_seconds", "Seconds between two tokens.", SHORT_SECONDS
        )
        registry.register(_Models(catalogue))

    def add_plugins(self, plugins: Iterable[PluginReport]) -> None:
        """Show which plugins are installed."""
        family = InfoMetricFamily("jarvis_plugin", "Installed plugins.", labels=_PLUGIN)
        for plugin in plugins:
            family.add_metric((plugin.name, plugin.distribution), {"version": plugin.version})
        self.registry.register(_Constant(family))

    def exchange_ended(self, exchange: Exchange) -> None:
        """Count a request that has its answer, or will never have one."""
        self._http.labels(exchange.route, exchange.status).inc()
        if exchange.status in (429, 503, 504):
            self._rejected.labels(exchange.error_code or "unknown").inc()
        if exchange.accepted_at is None:
            return
        model = (exchange.model, exchange.engine)
        self._requests.labels(
            *model, exchange.route, exchange.outcome, exchange.finish_reason
        ).inc()
        self._prompt.labels(*model).inc(exchange.prompt_tokens)
        self._queue_position.of(*model).observe(exchange.queue_position)
        self._queue_time.of(*model).observe(exchange.queued)
        if exchange.first_token_at is not None:
            self._first_token.of(*model).observe(exchange.first_token_at - exchange.started)
        if exchange.usage is not None:
            self._cached.labels(*model).inc(exchange.usage.cached_tokens)
            self._generated.labels(*model).inc(exchange.usage.completion_tokens)
            self._latency.of(*model).observe(exchange.elapsed)


class _Constant(Collector):
    """A family that does not change."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


class _Models(Collector):
    """What the catalogue knows, read when it is asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def collect(self) -> Iterator[Metric]:
        statuses = self._catalogue.statuses()
        yield from _states(statuses)
        yield from _gauges(statuses)
        yield from _engine_stats(statuses)
        yield from _backend_metrics(statuses)
        build = InfoMetricFamily("jarvis_build", "The server.")
        build.add_metric([], {"version": core_version()})
        yield build


def _states(statuses: Iterable[ModelStatus]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "jarvis_model_state", "1 for the state that a model is in.", labels=(*_MODEL, "state")
    )
    for status in statuses:
        for state in ModelState:
            family.add_metric((*_labels(status), state.value), float(status.state is state))
    yield family


def _gauges(statuses: Iterable[ModelStatus]) -> Iterator[Metric]:
    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"jarvis_{name}", text, labels=_MODEL)

    running = gauge("requests_running", "Requests of which text is being generated.")
    waiting = gauge("requests_waiting", "Requests of which no text has come yet.")
    load = gauge("model_load_duration_seconds", "Seconds that the last load took.")
    memory = gauge("model_memory_bytes", "Bytes that a loaded model occupies, unless it sleeps.")
    kv = gauge("kv_cache_usage_ratio", "Share of the KV cache held by running requests.")
    for status in statuses:
        labels = _labels(status)
        running.add_metric(labels, status.requests - status.waiting)
        waiting.add_metric(labels, status.waiting)
        if status.load_seconds is not None:
            load.add_metric(labels, status.load_seconds)
        asleep = status.state is ModelState.ASLEEP
        if status.info is not None and status.info.memory_bytes is not None and not asleep:
            memory.add_metric(labels, status.info.memory_bytes)
        if status.stats is not None and status.stats.kv_total:
            kv.add_metric(labels, status.stats.kv_used / status.stats.kv_total)
    yield from (running, waiting, load, memory, kv)


def _engine_stats(statuses: Iterable[ModelStatus]) -> Iterator[Metric]:
    queries = CounterMetricFamily(
        "jarvis_prefix_cache_queries", "Prompts looked up in the prefix cache.", labels=_MODEL
    )
    hits = CounterMetricFamily(
        "jarvis_prefix_cache_hits", "Prompts of which a prefix was found.", labels=_MODEL
    )
    for status in statuses:
        if status.stats is not None:
            queries.add_metric(_labels(status), status.stats.prefix_queries)
            hits.add_metric(_labels(status), status.stats.prefix_hits)
    yield from (queries, hits)


def _backend_metrics(statuses: Iterable[ModelStatus]) -> Iterator[Metric]:
    """What backends count themselves, with the labels of their model in front."""
    families: dict[str, Metric] = {}
    for status in statuses:
        if status.stats is None or not status.stats.metrics:
            continue
        own = dict(zip(_MODEL, _labels(status), strict=True))
        for found in text_string_to_metric_families(status.stats.metrics):
            family = families.setdefault(
                found.name, Metric(found.name, found.documentation, found.type)
            )
            for sample in found.samples:
                family.add_sample(sample.name, {**sample.labels, **own}, sample.value)
    yield from families.values()


def _labels(status: ModelStatus) -> tuple[str, str]:
    return status.name, status.engine


@cache
def core_version() -> str:
    """Version of the installed core."""
    return version("jarvis-core")
