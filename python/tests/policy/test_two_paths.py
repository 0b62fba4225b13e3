"""The native path and the plain one are the same cache: any operations have the same answers and counts."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.conftest import PlainEngine, run
from sark_cache.policy import PythonPolicyCache, RustPolicyCache

users = st.sampled_from(["alice", "bob", "é:/", "1", 1, True, None, 2**70])
words = st.sampled_from(["read", "a/b", "a:b", "a_b", ""])
contexts = st.sampled_from(
    [None, {}, {"ip": "x"}, {"ip": "y", "n": [1, 1.0]}, {"now": 1}, {"bad": object()}, {"nan": math.nan}]
)
requests = st.tuples(users, words, words, contexts)
decisions = st.sampled_from(
    [
        {"allow": True},
        {"allow": False, "deep": {"é": [1, 2.5, None, "\ud800"]}},
        {"n": 2**70, "x": math.inf},
        {"bad": {1, 2}},
        None,
        [1],
    ]
)
ttls = st.sampled_from([None, 0, 60, 0.5e9, -1, math.nan, "60"])
levels = st.sampled_from([None, "critical", "public", "secret", "unknown"])
tokens = st.integers(0, 3)

operations = st.one_of(
    st.tuples(st.just("get"), requests, levels),
    st.tuples(st.just("set"), requests, decisions, ttls, levels, st.none() | tokens),
    st.tuples(st.just("lookup"), requests),
    st.tuples(st.just("get_batch"), st.lists(requests, max_size=3)),
    st.tuples(st.just("set_batch"), requests, decisions, ttls),
    st.tuples(st.just("delete"), requests),
    st.tuples(st.just("invalidate"), users),
    st.tuples(st.just("spoil"), requests),
    st.tuples(st.sampled_from(["clear", "size", "cleanup", "explain"]), requests),
)


class Driven:
    """One cache, and the tokens that its look-ups returned."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.tokens: list[Any] = []

    async def do(self, operation: str, *arguments: Any) -> Any:
        cache = self.cache
        if operation == "get":
            (user, action, resource, context), level = arguments
            return await cache.get(user, action, resource, context, level)
        if operation == "set":
            (user, action, resource, context), decision, ttl, level, number = arguments
            token = self.tokens[number] if number is not None and number < len(self.tokens) else None
            return await cache.set(user, action, resource, decision, context, ttl, level, token=token)
        if operation == "lookup":
            found = await cache.lookup(*arguments[0])
            self.tokens.insert(0, found.token)
            return found.decision, found.token is None, found.key is None
        if operation == "get_batch":
            return await cache.get_batch(arguments[0])
        if operation == "set_batch":
            (user, action, resource, context), decision, ttl = arguments
            return await cache.set_batch([(user, action, resource, decision, context, ttl)])
        if operation == "delete":
            return await cache.delete(*arguments[0])
        if operation == "invalidate":
            return await cache.invalidate(arguments[0])
        if operation == "spoil":
            try:
                key = cache._generate_cache_key(*arguments[0])
            except TypeError as error:
                return str(error)
            return cache.cache.set(key, "no json")
        if operation == "clear":
            return await cache.clear()
        if operation == "size":
            return await cache.size()
        if operation == "cleanup":
            return await cache.cleanup_expired()
        explanation = await cache.explain(*arguments[0])
        return explanation.source, explanation.reason, explanation.decision


@given(st.sampled_from([0, 10]), st.lists(operations, max_size=40))
@settings(max_examples=250, deadline=None)
def test_any_operations_have_the_same_answers_on_every_path(window: float, operations: list[Any]) -> None:
    options: dict[str, Any] = {
        "max_size": 1000,
        "max_evaluation_seconds": window,
        "volatile_fields": ["now"],
        "optimized_ttl": {"secret": 0},
        "cacheable": lambda decision: decision.get("n") != 2**70,
    }
    native, plain = RustPolicyCache(**options), RustPolicyCache(**options)
    plain.cache = PlainEngine(1000, 300)
    driven = [Driven(native), Driven(plain), Driven(PythonPolicyCache(**options))]

    async def scenario() -> None:
        for operation in operations:
            first, *others = [repr(await one.do(*operation)) for one in driven]
            assert others == [first, first], operation

    run(scenario())
    counted, *others = [one.cache.totals() for one in driven]
    assert others == [counted, counted]
    assert native.metrics.hits + native.metrics.misses == native.metrics.total_requests


def test_the_engine_may_be_replaced_in_the_middle_and_put_back() -> None:
    cache = RustPolicyCache()

    async def scenario() -> None:
        await cache.set("u", "a", "r", {"allow": True})
        native, cache.cache = cache.cache, PlainEngine(10, 300)
        assert await cache.get("u", "a", "r") is None
        await cache.set("u", "a", "r", {"allow": False})
        assert await cache.get("u", "a", "r") == {"allow": False}
        cache.cache = native
        assert await cache.get("u", "a", "r") == {"allow": True}

    run(scenario())
    assert (cache.metrics.hits, cache.metrics.misses) == (2, 1)
