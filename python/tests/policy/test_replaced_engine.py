"""Applications replace the engine, patch the module's globals and read the metrics. These tests keep that working."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock, call, patch

import pytest

from policy.conftest import run
from sark_cache.policy import CacheMetrics, rust_cache

REQUEST = ("user-123", "execute", "tool:calculator")
ALLOW = {"allow": True, "reason": "test"}


@pytest.fixture
def engine() -> MagicMock:
    engine = MagicMock()
    engine.get.return_value = None
    engine.set.return_value = None
    engine.delete.return_value = False
    engine.size.return_value = 0
    engine.cleanup_expired.return_value = 0
    return engine


@pytest.fixture
def cache(engine: MagicMock) -> Iterator[Any]:
    with patch.object(rust_cache, "RUST_AVAILABLE", True), patch.object(rust_cache, "RustCache", return_value=engine):
        yield rust_cache.RustPolicyCache(max_size=100, ttl_seconds=60)


@pytest.fixture
def no_instance() -> Iterator[None]:
    before, rust_cache._cache_instance = rust_cache._cache_instance, None
    yield
    rust_cache._cache_instance = before


def test_the_engine_is_made_through_the_modules_global() -> None:
    with patch.object(rust_cache, "RustCache") as made:
        cache = rust_cache.RustPolicyCache()
        assert cache.cache is made.return_value
        made.assert_called_once_with(10_000, 300)
        made.reset_mock()
        cache = rust_cache.RustPolicyCache(max_size=500, ttl_seconds=120, enabled=False, use_optimized_ttl=False)
        made.assert_called_once_with(500, 120)
        assert (cache.max_size, cache.ttl_seconds, cache.enabled, cache.use_optimized_ttl) == (500, 120, False, False)


def test_a_hit_is_one_get_of_the_key(cache: Any, engine: MagicMock) -> None:
    engine.get.return_value = json.dumps(ALLOW)
    assert run(cache.get(*REQUEST)) == ALLOW
    assert engine.mock_calls == [call.get(cache._generate_cache_key(*REQUEST))]
    assert (cache.metrics.hits, cache.metrics.misses, cache.metrics.total_requests) == (1, 0, 1)


def test_a_miss_is_one_get_of_the_key(cache: Any, engine: MagicMock) -> None:
    assert run(cache.get(*REQUEST)) is None
    assert engine.mock_calls == [call.get(cache._generate_cache_key(*REQUEST))]
    assert (cache.metrics.hits, cache.metrics.misses, cache.metrics.total_requests) == (0, 1, 1)


def test_a_set_is_one_set_of_key_text_and_seconds_by_position(cache: Any, engine: MagicMock) -> None:
    assert run(cache.set(*REQUEST, ALLOW)) is True
    assert engine.mock_calls == [call.size(), call.set(cache._generate_cache_key(*REQUEST), json.dumps(ALLOW), 60)]
    run(cache.set(*REQUEST, ALLOW, ttl_seconds=300, sensitivity="critical"))
    assert engine.set.call_args[0][2] == 300
    run(cache.set(*REQUEST, ALLOW, sensitivity="confidential"))
    assert engine.set.call_args[0][2] == 120


def test_each_item_of_a_batch_is_one_get(cache: Any, engine: MagicMock) -> None:
    engine.get.side_effect = [None, json.dumps(ALLOW)]
    assert run(cache.get_batch([("u", "a", "1", None), ("u", "a", "2", None)])) == [None, ALLOW]
    assert [name for name, *_rest in engine.mock_calls] == ["get", "get"]


@pytest.mark.parametrize(
    ("method", "arguments", "calls", "answer"),
    [
        ("delete", REQUEST, "delete", False),
        ("clear", (), "clear", True),
        ("size", (), "size", 0),
        ("cleanup_expired", (), "cleanup_expired", 0),
    ],
)
def test_other_operations_are_one_call_each(
    cache: Any, engine: MagicMock, method: str, arguments: Any, calls: str, answer: Any
) -> None:
    assert run(getattr(cache, method)(*arguments)) == answer
    assert [name for name, *_rest in engine.mock_calls] == [calls]


@pytest.mark.parametrize(
    ("method", "arguments", "fails", "answer"),
    [
        ("get", REQUEST, "get", None),
        ("set", (*REQUEST, ALLOW), "set", False),
        ("delete", REQUEST, "delete", False),
        ("clear", (), "clear", False),
        ("size", (), "size", 0),
        ("cleanup_expired", (), "cleanup_expired", 0),
        ("health_check", (), "set", False),
        ("health_check", (), "get", False),
        ("get_batch", ([(*REQUEST, None)],), "get", [None]),
        ("set_batch", ([(*REQUEST, ALLOW, None, None)],), "set", 0),
    ],
)
def test_errors_of_the_engine_never_reach_the_authorization_path(
    cache: Any, engine: MagicMock, method: str, arguments: Any, fails: str, answer: Any
) -> None:
    getattr(engine, fails).side_effect = Exception("engine error")
    assert run(getattr(cache, method)(*arguments)) == answer


@pytest.mark.parametrize("stored", ["invalid json {", "[]", "null", b"{}", 7, MagicMock()])
def test_whatever_else_an_engine_gives_is_a_miss(cache: Any, engine: MagicMock, stored: Any) -> None:
    engine.get.return_value = stored
    assert run(cache.get(*REQUEST)) is None
    assert cache.metrics.misses == cache.metrics.errors == 1


def test_a_disabled_cache_leaves_the_engine_alone(cache: Any, engine: MagicMock) -> None:
    cache.enabled = False
    assert run(cache.get(*REQUEST)) is None
    assert run(cache.set(*REQUEST, ALLOW)) is False
    assert engine.mock_calls == []


def test_an_eviction_is_counted_when_the_engine_is_full_before_a_set(cache: Any, engine: MagicMock) -> None:
    engine.size.return_value = 99
    run(cache.set(*REQUEST, ALLOW))
    assert cache.metrics.evictions == 0
    engine.size.return_value = 100
    run(cache.set(*REQUEST, ALLOW))
    assert cache.metrics.evictions == 1


def test_the_health_probe_stores_reads_back_and_compares(cache: Any, engine: MagicMock) -> None:
    engine.get.return_value = json.dumps({"status": "ok"})
    assert run(cache.health_check()) is True
    assert engine.set.call_args[0][1] == json.dumps({"status": "ok"})
    engine.get.return_value = json.dumps({"status": "other"})
    assert run(cache.health_check()) is False
    assert cache.metrics == CacheMetrics()


def test_metrics_are_averages_rates_and_can_be_replaced(cache: Any, engine: MagicMock) -> None:
    assert cache.get_metrics() == {
        "hits": 0, "misses": 0, "total_requests": 0, "evictions": 0,
        "hit_rate": 0.0, "miss_rate": 100.0, "avg_cache_latency_ms": 0.0,
    }  # fmt: skip
    engine.get.return_value = json.dumps(ALLOW)
    run(cache.get(*REQUEST))
    run(cache.get(*REQUEST))
    engine.get.return_value = None
    run(cache.get(*REQUEST))
    metrics = cache.get_metrics()
    assert (metrics["hit_rate"], metrics["miss_rate"]) == (66.67, 33.33)
    assert cache.metrics.cache_latency_ms > 0
    cache.record_opa_latency(4.0)
    assert cache.metrics.opa_latency_ms == 4.0
    cache.reset_metrics()
    assert cache.metrics == CacheMetrics()
    assert cache.totals()["hits"] == 2
    cache.metrics = CacheMetrics(hits=3, misses=1, total_requests=4, cache_latency_ms=1.234)
    assert cache.get_metrics()["hit_rate"] == 75.0
    assert cache.get_metrics()["avg_cache_latency_ms"] == 1.23


def test_without_the_extension_a_cache_says_so() -> None:
    with patch.object(rust_cache, "RUST_AVAILABLE", False):
        assert rust_cache.is_rust_cache_available() is False
        with pytest.raises(RuntimeError, match="Rust cache extensions not available"):
            rust_cache.RustPolicyCache()


@pytest.mark.usefixtures("no_instance")
def test_a_process_has_one_instance(engine: MagicMock) -> None:
    with patch.object(rust_cache, "RustCache", return_value=engine):
        cache = rust_cache.get_rust_policy_cache(max_size=200, ttl_seconds=90)
        assert (cache.max_size, cache.ttl_seconds) == (200, 90)
        assert rust_cache.get_rust_policy_cache() is cache is rust_cache._cache_instance
    rust_cache._cache_instance = None
    with patch.object(rust_cache, "RUST_AVAILABLE", False), pytest.raises(RuntimeError, match="not available"):
        rust_cache.get_rust_policy_cache()


def test_settings_may_be_changed_while_it_runs(cache: Any, engine: MagicMock) -> None:
    cache.ttl_seconds = 5
    run(cache.set(*REQUEST, ALLOW, sensitivity="unknown"))
    assert engine.set.call_args[0][2] == 5
    cache.use_optimized_ttl = False
    assert cache._get_ttl_for_sensitivity("critical") == 5
    cache.use_optimized_ttl = True
    cache.OPTIMIZED_TTL["critical"] = 0
    assert run(cache.set(*REQUEST, ALLOW, sensitivity="critical")) is False


def test_the_log_is_the_one_that_was_passed_and_formats_nothing_itself(engine: MagicMock) -> None:
    logger = MagicMock()
    with patch.object(rust_cache, "RustCache", return_value=engine):
        cache = rust_cache.RustPolicyCache(logger=logger)
    engine.get.side_effect = OSError("no engine")
    run(cache.get(*REQUEST))
    template, *arguments = logger.warning.call_args[0]
    assert "%s" in template
    assert template % tuple(arguments) == "policy cache: get failed: OSError: no engine"
    engine.get.side_effect = None
    logger.reset_mock()
    run(cache.get(*REQUEST))
    engine.get.return_value = json.dumps(ALLOW)
    run(cache.get(*REQUEST))
    assert logger.mock_calls == []


def test_the_log_says_which_part_of_a_request_can_not_be_in_a_key(caplog: pytest.LogCaptureFixture) -> None:
    cache = rust_cache.RustPolicyCache()
    with caplog.at_level("DEBUG", "sark_cache.policy"):
        run(cache.get_or_evaluate(*REQUEST, {"ip": "x", "when": {1, 2}}, evaluate=lambda: ALLOW))
    assert "context['when'] is of type set" in caplog.text
