"""Decisions in every kind of cache: what goes in comes out, for as long as it may, and nothing else."""

from __future__ import annotations

import enum
import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sark_cache.policy import PythonPolicyCache, RustPolicyCache, key_from_input
from sark_cache.policy.python_engine import PythonCache

from conftest import Clock, wait_until
from policy.conftest import run

ALLOW = {"allow": True, "reason": "owner"}
DENY = {"allow": False, "reason": "not a member"}
REQUEST = ("alice", "read", "doc:1")


class Level(str, enum.Enum):
    """An enum as applications define them: its members hash by their names."""

    CRITICAL = "critical"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**80) | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4),
    max_leaves=12,
)
decisions = st.dictionaries(st.text(max_size=6) | st.sampled_from(["allow", "reason"]), json_values, max_size=6)


def test_what_was_stored_is_found_and_nothing_else(cache: Any) -> None:
    async def scenario() -> None:
        assert await cache.get(*REQUEST) is None
        assert await cache.set(*REQUEST, ALLOW) is True
        assert await cache.get(*REQUEST) == ALLOW
        assert await cache.get("alice", "read", "doc:2") is None
        assert await cache.get("bob", "read", "doc:1") is None
        assert await cache.get(*REQUEST, {"ip": "10.0.0.1"}) is None
        assert await cache.set(*REQUEST, DENY, {"ip": "10.0.0.1"}) is True
        assert await cache.get(*REQUEST, {"ip": "10.0.0.1"}) == DENY
        assert await cache.get(*REQUEST) == ALLOW

    run(scenario())


@given(decisions)
@settings(max_examples=300, deadline=None)
def test_a_decision_comes_back_exactly_as_the_standard_library_would_read_it(decision: dict[str, Any]) -> None:
    cache = RustPolicyCache()

    async def scenario() -> Any:
        assert await cache.set(*REQUEST, decision) is True
        (batched,) = await cache.get_batch([(*REQUEST, None)])
        assert identical(batched, json.loads(json.dumps(decision)))
        return await cache.get(*REQUEST)

    assert identical(run(scenario()), json.loads(json.dumps(decision)))


def identical(one: Any, other: Any) -> bool:
    """Returns whether two values are equal, with equal types at every level and in equal order. NaN equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, float):
        return one.hex() == other.hex() or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


@pytest.mark.parametrize(
    "value", [2**70, -(2**63), 2**63, 1e400, -0.0, math.nan, -math.inf, "\ud83d", "é\0\x7f", [[]] * 3, {"1": {}}]
)
def test_values_that_other_decoders_change_come_back_as_they_were(cache: Any, value: Any) -> None:
    async def scenario() -> Any:
        await cache.set(*REQUEST, {"allow": True, "value": value})
        return await cache.get(*REQUEST)

    assert identical(run(scenario()), {"allow": True, "value": value})


def test_the_engine_holds_the_text_of_the_standard_library() -> None:
    cache = RustPolicyCache()
    decision = {"allow": True, "é": [1.0, 1e-7, None], "n": 2**70}
    run(cache.set(*REQUEST, decision))
    assert cache.cache.get(cache._generate_cache_key(*REQUEST)) == json.dumps(decision)


def test_changing_a_decision_does_not_change_the_cached_one(cache: Any) -> None:
    async def scenario() -> None:
        stored = {"allow": False, "obligations": {"log": []}}
        await cache.set(*REQUEST, stored)
        stored["allow"] = True
        for _ in range(2):
            found = await cache.get(*REQUEST)
            assert found == {"allow": False, "obligations": {"log": []}}
            found["allow"] = True
            found["obligations"]["log"].append("mine")
        (batched,) = await cache.get_batch([(*REQUEST, None)])
        assert batched == {"allow": False, "obligations": {"log": []}}

    run(scenario())


def test_nothing_is_served_at_or_after_its_time() -> None:
    clock = Clock()
    cache = PythonPolicyCache()
    cache.cache = PythonCache(10, 300, timer=clock)

    async def scenario() -> None:
        await cache.set(*REQUEST, ALLOW, ttl_seconds=5)
        clock.advance(4.999)
        assert await cache.get(*REQUEST) == ALLOW
        clock.advance(0.001)
        assert await cache.get(*REQUEST) is None

    run(scenario())


def test_a_short_time_passes_in_every_cache(cache: Any) -> None:
    assert run(cache.set(*REQUEST, ALLOW, ttl_seconds=0.05)) is True
    wait_until(lambda: run(cache.get(*REQUEST)) is None)


@pytest.mark.parametrize(
    ("options", "decision", "arguments", "seconds"),
    [
        ({}, ALLOW, {}, 300),
        ({"ttl_seconds": 77}, ALLOW, {}, 77),
        ({}, ALLOW, {"sensitivity": "critical"}, 60),
        ({}, ALLOW, {"sensitivity": "medium"}, 180),
        ({}, ALLOW, {"sensitivity": Level.CRITICAL}, 60),
        ({}, ALLOW, {"sensitivity": "nobody knows it"}, 300),
        ({}, ALLOW, {"sensitivity": ["not", "text"]}, 300),
        ({"use_optimized_ttl": False}, ALLOW, {"sensitivity": "critical"}, 300),
        ({"optimized_ttl": {"critical": 7}}, ALLOW, {"sensitivity": "critical"}, 7),
        ({}, ALLOW, {"sensitivity": "critical", "ttl_seconds": 400}, 400),
        ({"allow_ttl_seconds": 20}, ALLOW, {}, 20),
        ({"allow_ttl_seconds": 20}, DENY, {}, 300),
        ({"deny_ttl_seconds": 5}, DENY, {}, 5),
        ({"deny_ttl_seconds": 5}, {"reason": "no word of allow"}, {}, 5),
        ({"deny_ttl_seconds": 5}, {"allow": 1}, {}, 5),
        ({"allow_ttl_seconds": 90}, ALLOW, {"sensitivity": "critical"}, 60),
        ({"allow_ttl_seconds": 20}, ALLOW, {"ttl_seconds": 30}, 30),
    ],
)
def test_how_long_a_decision_is_kept(
    make_cache: Callable[..., Any], options: Any, decision: Any, arguments: Any, seconds: float
) -> None:
    cache = make_cache(**options)

    async def scenario() -> Any:
        assert await cache.set(*REQUEST, decision, **arguments) is True
        return await cache.explain(*REQUEST)

    explanation = run(scenario())
    assert explanation.source == "cache" and explanation.decision == decision
    if explanation.remaining is not None:
        assert seconds - 5 < explanation.remaining <= seconds
        assert 0 <= explanation.age < 5


@pytest.mark.parametrize(
    ("options", "decision", "arguments"),
    [
        ({"optimized_ttl": {"critical": 0}}, ALLOW, {"sensitivity": "critical"}),
        ({}, ALLOW, {"ttl_seconds": 0}),
        ({"allow_ttl_seconds": 0}, ALLOW, {}),
        ({"deny_ttl_seconds": 0}, DENY, {}),
        ({"cacheable": lambda decision: "fail_closed" not in decision}, {"allow": False, "fail_closed": True}, {}),
        ({"cacheable": lambda decision: decision["missing"]}, ALLOW, {}),
        ({}, {"allow": object()}, {}),
        ({}, None, {}),
        ({}, [ALLOW], {}),
        ({}, ALLOW, {"ttl_seconds": -1}),
        ({}, ALLOW, {"ttl_seconds": math.nan}),
        ({}, ALLOW, {"ttl_seconds": "60"}),
    ],
)
def test_what_must_not_be_kept_is_not_and_an_older_decision_is_forgotten(
    make_cache: Callable[..., Any], options: Any, decision: Any, arguments: Any
) -> None:
    cache = make_cache(**options)

    async def scenario() -> None:
        cache.cacheable, hook = None, cache.cacheable
        await cache.set(*REQUEST, {"allow": True, "older": True}, ttl_seconds=60)
        assert await cache.get(*REQUEST) is not None
        cache.cacheable = hook
        assert await cache.set(*REQUEST, decision, **arguments) is False
        assert await cache.get(*REQUEST) is None

    run(scenario())


def test_a_level_that_is_never_stored_is_never_served_either(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(optimized_ttl={"critical": 0})

    async def scenario() -> None:
        await cache.set(*REQUEST, ALLOW)
        assert await cache.get(*REQUEST, None, "critical") is None
        assert await cache.get(*REQUEST, None, "public") == ALLOW

    run(scenario())


def test_a_disabled_cache_answers_nothing_and_keeps_nothing(cache: Any) -> None:
    async def scenario() -> None:
        await cache.set(*REQUEST, ALLOW)
        cache.enabled = False
        assert await cache.get(*REQUEST) is None
        assert await cache.set(*REQUEST, DENY) is False
        assert await cache.get_batch([(*REQUEST, None)]) == [None]
        assert await cache.set_batch([(*REQUEST, DENY, None, None)]) == 0
        cache.enabled = True
        assert await cache.get(*REQUEST) == ALLOW

    run(scenario())


def test_a_call_may_go_round_the_cache(cache: Any) -> None:
    async def scenario() -> None:
        await cache.set(*REQUEST, ALLOW)
        assert await cache.get(*REQUEST, bypass=True) is None
        assert await cache.get(*REQUEST) == ALLOW

    run(scenario())


def test_a_request_that_can_not_have_a_key_is_not_cached_and_counted(cache: Any) -> None:
    async def scenario() -> None:
        assert await cache.set(*REQUEST, ALLOW, {"when": object()}) is False
        assert await cache.get(*REQUEST, {"when": object()}) is None
        assert await cache.get_batch([(*REQUEST, {"when": object()})]) == [None]
        assert await cache.lookup(*REQUEST, {"when": object()}) == (None, None, None, None, None)
        assert "not cacheable" in (await cache.explain(*REQUEST, {"when": object()})).reason

    run(scenario())
    assert cache.metrics.uncacheable >= 4
    assert cache.metrics.misses == cache.metrics.total_requests == 3


def test_a_batch_answers_in_order(cache: Any) -> None:
    async def scenario() -> None:
        entries = [("alice", "read", f"doc:{n}", {"n": n}, {"n": n} if n % 2 else None, None) for n in range(0, 20, 2)]
        assert await cache.set_batch(entries) == 10
        requests = [("alice", "read", f"doc:{n}", {"n": n} if n % 2 else None) for n in range(20)]
        assert await cache.get_batch(requests) == [None if n % 2 else {"n": n} for n in range(20)]
        assert await cache.get_batch([]) == []
        assert await cache.get_batch([("alice", "read", "too short")]) == [None]

    run(scenario())
    assert cache.metrics.batch_operations == 2
    assert (cache.metrics.hits, cache.metrics.misses) == (10, 10)


def test_a_batch_with_a_request_that_is_none_answers_and_counts_nothing(cache: Any) -> None:
    async def scenario() -> None:
        await cache.set(*REQUEST, ALLOW)
        for bad in (("alice", "read"), [*REQUEST, None], None):
            assert await cache.get_batch([(*REQUEST, None), bad]) == [None, None]

    run(scenario())
    assert cache.metrics.total_requests == cache.metrics.batch_operations == 0
    assert cache.metrics.errors == 3


def test_requests_made_from_a_policy_input_may_come_in_a_batch(cache: Any) -> None:
    async def scenario() -> None:
        request = key_from_input({"user": "alice", "action": "read", "resource": "doc:1", "roles": ["dev"]})
        await cache.set(*request[:3], ALLOW, request.context)
        assert await cache.get(*request) == ALLOW
        assert await cache.get_batch([request]) == [ALLOW]

    run(scenario())


def test_preloaded_decisions_are_found(cache: Any) -> None:
    async def scenario() -> None:
        assert await cache.preload_cache([("u", "a", "r1", ALLOW, None), ("u", "a", "r2", DENY, {"x": 1})]) == 2
        assert await cache.get("u", "a", "r2", {"x": 1}) == DENY

    run(scenario())


def test_a_cache_is_bounded_and_the_least_recently_used_leaves() -> None:
    for kind in (RustPolicyCache, PythonPolicyCache):
        cache = kind(max_size=3)

        async def scenario(cache: Any = cache) -> None:
            for resource in "abc":
                await cache.set("u", "x", resource, ALLOW)
            await cache.get("u", "x", "a")
            await cache.set("u", "x", "d", ALLOW)
            assert await cache.size() == await cache.get_cache_size() == 3
            assert await cache.get("u", "x", "b") is None
            assert await cache.get("u", "x", "a") == ALLOW

        run(scenario())
        assert cache.metrics.evictions == 1


def test_an_explanation_says_where_an_answer_comes_from(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(policy_revision="r7")

    async def scenario() -> None:
        before = await cache.explain(*REQUEST)
        assert (before.source, before.decision, before.revision) == ("evaluation", None, "r7")
        await cache.set(*REQUEST, ALLOW)
        stored = await cache.explain(*REQUEST)
        assert (stored.source, stored.decision, stored.backend) == ("cache", ALLOW, cache.backend)
        assert stored.generation == before.generation
        await cache.invalidate("alice")
        after = await cache.explain(*REQUEST)
        assert after.source == "evaluation" and after.generation != before.generation
        cache.enabled = False
        assert (await cache.explain(*REQUEST)).reason == "the cache is disabled"

    run(scenario())
    assert cache.metrics.total_requests == 0


def test_the_health_of_a_cache_is_that_of_its_engine_and_costs_no_counts(cache: Any) -> None:
    assert run(cache.health_check()) is True
    assert cache.metrics.total_requests == 0


def test_asking_needs_no_event_loop() -> None:
    cache = RustPolicyCache()
    asking = cache.get(*REQUEST)
    with pytest.raises(StopIteration) as finished:
        asking.send(None)
    assert finished.value.value is None


def test_a_stored_text_that_is_no_decision_is_a_miss_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    cache = RustPolicyCache()
    for text in ("invalid json {", "[1]", "null", '{"a": 1} trailing', ""):
        cache.cache.set(cache._generate_cache_key(*REQUEST), text)
        with caplog.at_level(logging.WARNING, "sark_cache.policy"):
            assert run(cache.get(*REQUEST)) is None
            assert run(cache.get_batch([(*REQUEST, None)])) == [None]
    assert cache.metrics.errors == len(caplog.records) == 10
    assert cache.metrics.misses == cache.metrics.total_requests == 10


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"max_size": 0}, ValueError, "max_size"),
        ({"max_size": -1}, ValueError, "max_size"),
        ({"ttl_seconds": 0}, ValueError, "ttl_sec"),
        ({"ttl_seconds": -1}, ValueError, "ttl_sec"),
        ({"ttl_seconds": math.nan}, ValueError, "ttl_sec"),
        ({"ttl_seconds": "60"}, TypeError, "ttl_sec"),
        ({"allow_ttl_seconds": -1}, ValueError, "allow_ttl_seconds"),
        ({"deny_ttl_seconds": math.nan}, ValueError, "deny_ttl_seconds"),
        ({"max_evaluation_seconds": -1}, ValueError, "max_evaluation_seconds"),
        ({"optimized_ttl": {"critical": -1}}, ValueError, "critical"),
        ({"policy_revision": 7}, TypeError, "policy_revision"),
        ({"volatile_fields": "now"}, TypeError, "volatile_fields"),
        ({"unheard_of": 1}, TypeError, "unheard_of"),
    ],
)
@pytest.mark.parametrize("kind", [RustPolicyCache, PythonPolicyCache])
def test_bad_settings_are_refused_by_name(kind: Any, options: Any, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        kind(**options)


def test_levels_of_an_instance_are_the_effective_ones() -> None:
    assert RustPolicyCache.OPTIMIZED_TTL == {
        "critical": 60,
        "confidential": 120,
        "internal": 180,
        "public": 300,
        "default": 120,
    }
    assert RustPolicyCache().OPTIMIZED_TTL == {**RustPolicyCache.OPTIMIZED_TTL, "low": 300, "medium": 180, "high": 60}
    configured = RustPolicyCache(optimized_ttl={"high": 0, "public": 10})
    assert configured.OPTIMIZED_TTL == {**RustPolicyCache().OPTIMIZED_TTL, "high": 0, "public": 10}
