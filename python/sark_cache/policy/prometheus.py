"""The counts of a policy cache, for Prometheus. Needs ``prometheus-client`` (the extra ``prometheus``).

Importing this module registers nothing. An application registers a collector, or creates counters, for its
caches. Look-ups pay nothing for this, since the counts are read when they are scraped.

    REGISTRY.register(PolicyCacheCollector(cache))

In prometheus-client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``) collectors aren't asked. There,
``CounterFlusher`` adds what was counted to ordinary counters whenever its ``flush()`` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sark_cache.policy.metrics import LATENCY_BUCKETS

try:
    from prometheus_client import Counter
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
except ImportError as error:
    raise ImportError("prometheus-client could not be imported; install sark-cache[prometheus]") from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

PREFIX = "sark_cache_policy_"

_COUNTERS = {
    "hits": "Look-ups that found a decision.",
    "misses": "Look-ups that found none.",
    "evictions": "Decisions that left for others.",
    "stale_hits": "Hits near the end of their time, which had them revalidated.",
    "revalidations": "Revalidations whose decision was stored.",
    "batch_operations": "Batches looked up or stored.",
    "uncacheable": "Requests that can't have a key.",
    "refused": "Decisions not stored because of an invalidation.",
    "errors": "Failures of the engine, and decisions that aren't JSON.",
    "skipped": "Look-ups and stores that didn't ask a server that hadn't answered in time.",
}


class PolicyCacheCollector:
    """Exports the totals of a cache. Resetting the cache's metrics doesn't reset them.

    Args:
        cache: Any cache of ``sark_cache.policy``.
        prefix: What the names of metrics begin with.
        labels: Names and values of labels, for applications with several caches.
    """

    def __init__(self, cache: Any, prefix: str = PREFIX, labels: Mapping[str, str] | None = None) -> None:
        self._cache = cache
        self._prefix = prefix
        self._names = list(labels or {})
        self._values = list((labels or {}).values())

    def describe(self) -> Iterator[Metric]:
        """Returns what will be collected, by name."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics when Prometheus scrapes."""
        totals = self._cache.totals()
        for name, what in _COUNTERS.items():
            family = CounterMetricFamily(self._prefix + name, what, labels=self._names)
            family.add_metric(self._values, totals[name])
            yield family
        yield self._latency()
        engine = getattr(self._cache, "cache", None)
        if engine is not None:
            entries = GaugeMetricFamily(self._prefix + "entries", "Decisions that are kept.", labels=self._names)
            entries.add_metric(self._values, engine.size())
            yield entries

    def _latency(self) -> Metric:
        counts, seconds = self._cache.latencies()
        cumulative, buckets = 0, []
        for bound, count in zip((*LATENCY_BUCKETS, "+Inf"), counts, strict=True):
            cumulative += count
            buckets.append((str(bound), cumulative))
        what = "Seconds that a look-up took which hit; of the native engine, of one hit in sixteen."
        family = HistogramMetricFamily(self._prefix + "hit_seconds", what, labels=self._names)
        family.add_metric(self._values, buckets=buckets, sum_value=seconds)
        return family


class CounterFlusher:
    """Ordinary counters of prometheus-client that ``flush()`` brings up to date. For its multiprocess mode.

    Create one per cache and process, after forking. Call ``flush()`` at an interval, and before the process
    ends.

    Args:
        cache: Any cache of ``sark_cache.policy``.
        registry: Where the counters are registered; None for nowhere, which suits multiprocess mode.
        prefix: What the names of metrics begin with.
    """

    def __init__(self, cache: Any, registry: CollectorRegistry | None = None, prefix: str = PREFIX) -> None:
        self._cache = cache
        self._flushed = dict.fromkeys(_COUNTERS, 0)
        self._counters = {name: Counter(prefix + name, what, registry=registry) for name, what in _COUNTERS.items()}

    def flush(self) -> None:
        """Adds what was counted since the last call."""
        totals = self._cache.totals()
        for name, counter in self._counters.items():
            counter.inc(totals[name] - self._flushed[name])
            self._flushed[name] = totals[name]
