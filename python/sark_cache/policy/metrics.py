"""The counts of a policy cache: counts since the last reset, for applications, and totals that never decrease.

This module only adds up. It knows nothing of engines, exporters and clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields
from typing import Any

LATENCY_BUCKETS = (
    100e-9, 250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3,
)  # fmt: skip
"""The upper bounds of the latency histogram, in seconds.

One more bucket takes the rest. The native module has the same.
"""

_AVERAGES = ("cache_latency_ms", "opa_latency_ms")


@dataclass
class CacheMetrics:
    """Counts since the cache was made, or since they were last reset. Latencies are averages, in milliseconds."""

    hits: int = 0
    misses: int = 0
    """Look-ups without a decision: nothing there, expired, invalidated, uncacheable, or an error."""
    total_requests: int = 0
    evictions: int = 0
    cache_latency_ms: float = 0.0
    """The average over look-ups that hit."""
    opa_latency_ms: float = 0.0
    """The average of what ``record_opa_latency`` was told."""
    stale_hits: int = 0
    """Hits near the end of their time, never past it, whose revalidation was started or already under way."""
    revalidations: int = 0
    """Revalidations whose decision was stored."""
    batch_operations: int = 0
    uncacheable: int = 0
    """Requests that can't have a key: something in them is neither JSON nor bytes."""
    refused: int = 0
    """Decisions not stored because something that covers them was invalidated since, or may have been."""
    errors: int = 0
    """Failures of the engine, and decisions that aren't JSON."""
    skipped: int = 0
    """Look-ups and stores that didn't ask the server, because it hadn't answered in time shortly before."""

    @property
    def hit_rate(self) -> float:
        """Hits per request, in percent; 0 if there was no request."""
        if self.total_requests == 0:
            return 0.0
        return (self.hits / self.total_requests) * 100

    @property
    def miss_rate(self) -> float:
        """100 less the hit rate, in percent."""
        return 100.0 - self.hit_rate

    def to_dict(self) -> dict[str, Any]:
        """Returns the main counts, the rates and the average latency, rounded to 2 places."""
        return {
            "hits": self.hits,
            "misses": self.misses,
            "total_requests": self.total_requests,
            "evictions": self.evictions,
            "hit_rate": round(self.hit_rate, 2),
            "miss_rate": round(self.miss_rate, 2),
            "avg_cache_latency_ms": round(self.cache_latency_ms, 2),
        }

    def record_hits(self, count: int, milliseconds: float | None) -> None:
        """Adds hits with their average duration, which is None if it isn't known."""
        if milliseconds is not None and count:
            known = self.hits if self.cache_latency_ms else 0
            self.cache_latency_ms += (milliseconds - self.cache_latency_ms) * count / (known + count)
        self.hits += count
        self.total_requests += count

    def record_misses(self, count: int = 1) -> None:
        """Adds misses."""
        self.misses += count
        self.total_requests += count


COUNTERS = tuple(field.name for field in fields(CacheMetrics) if field.name not in _AVERAGES)
"""The fields of ``CacheMetrics`` that only grow between resets."""


class Totals:
    """What was counted before the last reset, and the latencies. For exporters: these counts never decrease."""

    __slots__ = ("_retired", "buckets", "seconds")

    def __init__(self) -> None:
        self._retired = dict.fromkeys(COUNTERS, 0)
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        """Timed look-ups that hit, per bucket."""
        self.seconds = 0.0
        """The sum of their times."""

    def retire(self, metrics: CacheMetrics) -> None:
        """Adds the counts of metrics that are about to be replaced."""
        for name in COUNTERS:
            self._retired[name] += getattr(metrics, name)

    def with_current(self, metrics: CacheMetrics) -> dict[str, int]:
        """Returns all counts since the cache was made, by name."""
        return {name: self._retired[name] + getattr(metrics, name) for name in COUNTERS}

    def record_latency(self, seconds: float) -> None:
        """Adds one look-up."""
        self.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def record_latencies(self, buckets: list[int], seconds: float) -> None:
        """Adds many look-ups: how many per bucket, and their total time."""
        self.buckets = [old + new for old, new in zip(self.buckets, buckets, strict=True)]
        self.seconds += seconds
