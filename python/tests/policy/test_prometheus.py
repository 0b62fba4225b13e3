"""What Prometheus sees."""

from __future__ import annotations

import os
from typing import Any

import pytest

from policy.conftest import run

prometheus_client = pytest.importorskip("prometheus_client")

from sark_cache.policy import RustPolicyCache  # noqa: E402
from sark_cache.policy.metrics import COUNTERS, LATENCY_BUCKETS  # noqa: E402
from sark_cache.policy.prometheus import CounterFlusher, PolicyCacheCollector  # noqa: E402


async def use(cache: Any, hits: int) -> None:
    await cache.get("u", "a", "nothing")
    await cache.set("u", "a", "r", {"allow": True})
    for _ in range(hits):
        await cache.get("u", "a", "r")


def test_counts_are_exported_when_scraped_and_a_reset_does_not_take_them_back() -> None:
    registry = prometheus_client.CollectorRegistry()
    cache = RustPolicyCache()
    registry.register(PolicyCacheCollector(cache))
    run(use(cache, 40))
    assert registry.get_sample_value("sark_cache_policy_hits_total") == 40
    assert registry.get_sample_value("sark_cache_policy_misses_total") == 1
    assert registry.get_sample_value("sark_cache_policy_entries") == 1
    cache.reset_metrics()
    assert cache.metrics.hits == 0
    run(use(cache, 2))
    assert registry.get_sample_value("sark_cache_policy_hits_total") == 42


def test_every_count_is_exported() -> None:
    exported = {family.name for family in PolicyCacheCollector(RustPolicyCache(), prefix="p_").collect()}
    assert exported == {f"p_{name}" for name in COUNTERS if name != "total_requests"} | {"p_hit_seconds", "p_entries"}


def test_latencies_are_a_histogram_down_to_a_hundred_nanoseconds() -> None:
    registry = prometheus_client.CollectorRegistry()
    cache = RustPolicyCache()
    registry.register(PolicyCacheCollector(cache))
    run(use(cache, 160))
    bounds = [str(bound) for bound in LATENCY_BUCKETS] + ["+Inf"]
    counts = [registry.get_sample_value("sark_cache_policy_hit_seconds_bucket", {"le": bound}) for bound in bounds]
    assert LATENCY_BUCKETS[0] == 1e-7
    assert (
        counts == sorted(counts)
        and counts[-1] == registry.get_sample_value("sark_cache_policy_hit_seconds_count") == 10
    )
    assert 0 < registry.get_sample_value("sark_cache_policy_hit_seconds_sum") < 10


def test_several_caches_are_told_apart_by_labels() -> None:
    registry = prometheus_client.CollectorRegistry()
    for name, hits in (("tools", 1), ("servers", 2)):
        cache = RustPolicyCache()
        collector = PolicyCacheCollector(cache, prefix=f"{name}_", labels={"cache": name})
        registry.register(collector)
        run(use(cache, hits))
        assert registry.get_sample_value(f"{name}_hits_total", {"cache": name}) == hits


def test_nothing_is_registered_by_itself() -> None:
    run(use(RustPolicyCache(), 1))
    assert "sark_cache_policy" not in prometheus_client.generate_latest().decode()


def test_ordinary_counters_are_brought_up_to_date_by_flushing() -> None:
    registry = prometheus_client.CollectorRegistry()
    cache = RustPolicyCache()
    flusher = CounterFlusher(cache, registry)
    run(use(cache, 3))
    assert registry.get_sample_value("sark_cache_policy_hits_total") == 0
    flusher.flush()
    flusher.flush()
    cache.reset_metrics()
    run(use(cache, 4))
    flusher.flush()
    assert registry.get_sample_value("sark_cache_policy_hits_total") == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_processes_are_summed_in_multiprocess_mode(
    run_python: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    output = run_python(
        """
        import asyncio, os
        from prometheus_client import CollectorRegistry, multiprocess
        from sark_cache.policy import RustPolicyCache
        from sark_cache.policy.prometheus import CounterFlusher

        cache = RustPolicyCache()

        async def use():
            await cache.set("u", "a", "r", {"allow": True})
            await cache.get("u", "a", "r")

        asyncio.run(use())
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                flusher = CounterFlusher(cache)
                asyncio.run(use())
                flusher.flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        print(registry.get_sample_value("sark_cache_policy_hits_total"))
        """
    )
    # The parent's own hit was not flushed, and the children didn't inherit it.
    assert output.strip() == "3.0"
