"""`Cache`, promise by promise.

`test_cache_model` tests sequences of operations, `test_cache_keys` keys that run code.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import math
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from conftest import Clock, wait_until

from sark_cache import Cache


class TestConstruction:
    @pytest.mark.parametrize("maxsize", [0, -1, -(10**30)])
    def test_a_maxsize_below_one_is_refused_with_its_value(self, maxsize: int) -> None:
        with pytest.raises(ValueError, match=rf"maxsize.*{maxsize}"):
            Cache(maxsize)

    @pytest.mark.parametrize("maxsize", ["10", None, 1.5, b"1"])
    def test_a_maxsize_that_is_no_int_is_a_type_error(self, maxsize: Any) -> None:
        with pytest.raises(TypeError, match="maxsize"):
            Cache(maxsize)

    @pytest.mark.parametrize("name", ["ttl", "tti"])
    @pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, -math.inf])
    def test_a_default_lifetime_that_keeps_nothing_is_refused_by_name(self, name: str, value: float) -> None:
        arguments: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=name):
            Cache(10, **arguments)

    @pytest.mark.parametrize("name", ["ttl", "tti", "getsizeof", "on_evict", "timer", "name"])
    def test_an_option_of_another_type_is_a_type_error_that_names_it(self, name: str) -> None:
        arguments: dict[str, Any] = {name: b"wrong"}
        with pytest.raises(TypeError, match=name):
            Cache(10, **arguments)

    @pytest.mark.parametrize("shards", [0, -1, -(10**30)])
    def test_less_than_one_shard_is_refused_with_the_value_and_what_is_allowed(self, shards: int) -> None:
        with pytest.raises(ValueError, match=rf"shards must be an int of at least 1, or None, not {shards}"):
            Cache(10, shards=shards)

    @pytest.mark.parametrize("shards", [True, False, 1.0, "2"])
    def test_a_number_of_shards_that_is_no_int_is_a_type_error(self, shards: Any) -> None:
        with pytest.raises(TypeError, match=f"shards must be an int of at least 1, or None, not {shards!r}"):
            Cache(10, shards=shards)

    @pytest.mark.parametrize("shards", [None, 1, 16, 10**40])
    def test_the_order_of_eviction_is_exact_whatever_number_of_shards_is_allowed(self, shards: int | None) -> None:
        cache: Cache[int, int] = Cache(100, shards=shards)
        cache.set_many((number, number) for number in range(150))
        assert list(cache) == list(range(50, 150))

    def test_an_option_nobody_knows_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="maximum"):
            Cache(10, maximum=3)  # type: ignore[call-arg]

    def test_only_maxsize_is_positional(self) -> None:
        with pytest.raises(TypeError):
            Cache(10, 60)  # type: ignore[misc]

    def test_what_it_was_made_with_can_be_read(self) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, tti=1.5, shards=4, name="users")
        assert (cache.maxsize, cache.ttl, cache.tti, cache.shards, cache.name) == (10, 60.0, 1.5, 4, "users")
        plain: Cache[str, int] = Cache(10)
        assert (plain.ttl, plain.tti, plain.shards, plain.name) == (None, None, None, None)

    def test_its_signature_has_every_option(self) -> None:
        options = ["maxsize", "ttl", "tti", "getsizeof", "on_evict", "timer", "shards", "name"]
        assert list(inspect.signature(Cache).parameters) == options

    def test_absurdly_large_saturates(self) -> None:
        cache: Cache[str, int] = Cache(10**40, ttl=10**40, tti=math.inf)
        cache["key"] = 1
        assert cache["key"] == 1


class WithKeys:
    """The least that `dict` accepts as a mapping."""

    def keys(self) -> list[str]:
        return ["a", "b"]

    def __getitem__(self, key: str) -> str:
        return key.upper()


class TestPairs:
    @pytest.mark.parametrize(
        "pairs", [{"a": "A", "b": "B"}, WithKeys(), [("a", "A"), ["b", "B"]], iter(["aA", iter("bB")])]
    )
    def test_what_a_dict_takes_for_pairs_is_taken(self, pairs: Any) -> None:
        cache: Cache[str, str] = Cache(10)
        cache.update(pairs)
        assert dict(cache) == {"a": "A", "b": "B"}

    @pytest.mark.parametrize("pairs", [5, None])
    def test_what_holds_no_pairs_is_a_type_error(self, pairs: Any) -> None:
        cache: Cache[str, str] = Cache(10)
        with pytest.raises(TypeError, match=f"pairs must be a mapping or an iterable of pairs, not {type(pairs).__name__}"):
            cache.set_many(pairs)

    @pytest.mark.parametrize(
        ("item", "error", "told"),
        [
            (5, TypeError, "each of pairs must be a key and a value, not int"),
            ((1,), ValueError, "must have 2 elements, a key and a value, not 1"),
            ((1, 2, 3), ValueError, "must have 2 elements, a key and a value, not more"),
            (itertools.count(), ValueError, "must have 2 elements, a key and a value, not more"),
        ],
    )
    def test_what_is_no_pair_is_refused_and_nothing_stored(self, item: Any, error: type[Exception], told: str) -> None:
        cache: Cache[Any, Any] = Cache(10)
        with pytest.raises(error, match=told):
            cache.update([("a", 1), item])
        assert len(cache) == 0


class TestMapping:
    def test_it_is_registered_as_a_mutable_mapping(self) -> None:
        cache: Cache[str, int] = Cache(10)
        assert isinstance(cache, MutableMapping)
        assert issubclass(Cache, MutableMapping)

    def test_the_very_same_object_comes_back(self) -> None:
        cache: Cache[str, object] = Cache(10)
        value = object()
        cache["key"] = value
        assert cache["key"] is cache.get("key") is cache.peek("key") is cache.pop("key") is value

    def test_none_is_a_value_like_any_other(self) -> None:
        cache: Cache[Any, Any] = Cache(10)
        cache[None] = None
        assert None in cache
        assert cache[None] is None
        assert cache.get(None, "default") is None
        assert cache.pop(None) is None

    def test_a_missing_key_is_the_key_errors_argument(self) -> None:
        cache: Cache[Any, Any] = Cache(10)
        for key in ("key", None, (), (1, 2), 3):
            for operation in (cache.__getitem__, cache.__delitem__, cache.pop):
                with pytest.raises(KeyError) as error:
                    operation(key)
                assert error.value.args == (key,)

    def test_an_unhashable_key_is_a_type_error(self) -> None:
        cache: Cache[Any, Any] = Cache(10)
        for operation in (cache.get, cache.pop, cache.__getitem__, cache.__contains__, cache.touch, cache.expires_in):
            with pytest.raises(TypeError, match="unhashable"):
                operation([])

    def test_it_becomes_a_dict_in_order_of_use(self) -> None:
        cache: Cache[str, int] = Cache(10)
        for number, key in enumerate("abc"):
            cache[key] = number
        cache["a"]
        assert list(dict(cache).items()) == [("b", 1), ("c", 2), ("a", 0)]

    def test_views_are_live_and_complete(self) -> None:
        cache: Cache[str, int] = Cache(10)
        keys, values, items = cache.keys(), cache.values(), cache.items()
        cache["a"] = 1
        cache["b"] = 2
        assert (len(keys), len(values), len(items)) == (2, 2, 2)
        assert set(keys) == {"a", "b"}
        assert sorted(values) == [1, 2]
        assert ("a", 1) in items
        assert ("a", 2) not in items
        assert keys & {"a", "x"} == {"a"}

    def test_looking_through_views_leaves_no_trace(self) -> None:
        cache: Cache[str, int] = Cache(2)
        cache["a"], cache["b"] = 1, 2
        before = cache.stats()
        assert list(cache.values()) == [1, 2]
        assert list(cache.items()) == [("a", 1), ("b", 2)]
        assert cache.stats() == before
        cache["c"] = 3
        assert "a" not in cache

    def test_update_takes_what_dicts_take(self) -> None:
        cache: Cache[str, int] = Cache(10)
        cache.update({"a": 1})
        cache.update([("b", 2)], c=3)
        assert dict(cache) == {"a": 1, "b": 2, "c": 3}

    def test_equal_but_not_identical_keys_are_one_key(self) -> None:
        cache: Cache[Any, str] = Cache(10)
        cache[1] = "int"
        assert (cache[1.0], cache[True]) == ("int", "int")
        cache[True] = "bool"
        cache[1.0] = "float"
        assert len(cache) == 1
        assert cache[1] == "float"

    def test_iteration_survives_whatever_happens_meanwhile(self) -> None:
        cache: Cache[int, int] = Cache(10)
        for key in range(10):
            cache[key] = key
        seen = []
        for key in cache:
            seen.append(key)
            cache.pop(key, None)
            cache[key + 100] = key
            cache.resize(5)
            if key == 5:
                cache.clear()
        assert seen == list(range(10))

    def test_the_truth_of_a_cache_is_whether_it_holds_anything(self) -> None:
        cache: Cache[int, int] = Cache(10)
        assert not cache
        cache[1] = 1
        assert cache

    def test_the_repr_names_the_class_and_the_cache_and_never_fails(self) -> None:
        class Unprintable:
            def __repr__(self) -> str:
                raise RuntimeError

        cache: Cache[int, object] = Cache(10, name="users")
        cache[1] = Unprintable()
        assert "Cache" in repr(cache)
        assert "users" in repr(cache)


class TestTime:
    def test_an_entry_lives_until_its_deadline_and_not_longer(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, timer=clock)
        cache["key"] = 1
        clock.advance(59.999999)
        assert cache["key"] == 1
        clock.advance(0.000001)
        assert "key" not in cache
        assert cache.get("key") is None
        assert len(cache) == 0

    def test_a_time_to_live_of_its_own_wins(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, timer=clock)
        cache.set("short", 1, ttl=5)
        cache.set("long", 1, 3600)
        cache.set("for ever", 1, ttl=math.inf)
        assert [cache.expires_in(key) for key in ("short", "long", "for ever", "x")] == [5, 3600, math.inf, None]
        clock.advance(60)
        assert list(cache) == ["long", "for ever"]

    def test_without_a_deadline_the_timer_is_never_asked(self) -> None:
        def timer() -> float:
            raise AssertionError("it was asked")

        cache: Cache[str, int] = Cache(10, timer=timer)
        cache["key"] = 1
        assert cache["key"] == 1

    def test_what_is_not_kept_has_no_deadline(self) -> None:
        def timer() -> float:
            raise AssertionError("nobody needs the time")

        cache: Cache[str, int] = Cache(10, timer=timer)
        cache["key"] = 1
        cache.set("key", 2, ttl=0)
        cache.set("other", 2, ttl=0)
        assert cache.get("key") is None
        assert len(cache) == 0

    def test_an_error_of_the_timer_reaches_the_caller_and_changes_nothing(self, clock: Clock) -> None:
        failing = False

        def timer() -> float:
            if failing:
                raise LookupError("no time")
            return clock()

        cache: Cache[str, int] = Cache(10, ttl=60, timer=timer)
        cache["key"] = 1
        failing = True
        for operation in (lambda: cache["key"], lambda: cache.set("key", 2), lambda: cache.pop("key")):
            with pytest.raises(LookupError, match="no time"):
                operation()
        failing = False
        assert cache["key"] == 1

    @pytest.mark.parametrize("wrong", [math.nan, "noon", None])
    def test_a_timer_that_tells_no_time_is_an_error(self, wrong: Any) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, timer=lambda: wrong)
        with pytest.raises((TypeError, ValueError)):
            cache["key"] = 1

    def test_a_timer_that_goes_backwards_does_no_harm(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, timer=clock)
        cache["key"] = 1
        clock.advance(-500)
        cache["other"] = 2
        assert (cache["key"], cache["other"]) == (1, 2)
        clock.advance(10_000)
        assert len(cache) == 0

    def test_a_hit_extends_the_time_to_idle_but_not_the_time_to_live(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, ttl=25, tti=10, timer=clock)
        cache["used"] = cache["unused"] = 1
        for _ in range(2):
            clock.advance(9)
            assert cache["used"] == 1
        assert "unused" not in cache
        clock.advance(7)
        assert "used" not in cache

    def test_touch_gives_a_new_lifetime_and_says_whether_it_was_there(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, ttl=60, timer=clock)
        cache["key"] = 1
        clock.advance(50)
        assert cache.touch("key") is True
        assert cache.expires_in("key") == 60
        assert cache.touch("key", 5) is True
        assert cache.expires_in("key") == 5
        assert cache.touch("unknown") is False

    def test_a_time_to_live_of_zero_forgets(self) -> None:
        cache: Cache[str, int] = Cache(10)
        cache["key"] = 1
        cache.set("key", 2, ttl=0)
        assert "key" not in cache

    @pytest.mark.parametrize("ttl", [-1, math.nan, -math.inf])
    def test_negative_and_nan_are_value_errors_that_change_nothing(self, ttl: float) -> None:
        cache: Cache[str, int] = Cache(10)
        cache["key"] = 1
        for operation in (
            lambda: cache.set("key", 2, ttl=ttl),
            lambda: cache.touch("key", ttl),
            lambda: cache.setdefault("new", 2, ttl=ttl),
            lambda: cache.set_many({"key": 2}, ttl=ttl),
            lambda: cache.get_or_set("new", lambda: 2, ttl=ttl),
            lambda: cache.incr("key", ttl=ttl),
        ):
            with pytest.raises(ValueError, match="ttl"):
                operation()
        assert dict(cache) == {"key": 1}

    def test_expire_tells_how_many_it_reclaimed_and_frees_them(self, clock: Clock) -> None:
        class Value:
            pass

        cache: Cache[int, Value] = Cache(100, timer=clock)
        for key in range(50):
            cache.set(key, Value(), ttl=1 + key % 2 * 10)
        clock.advance(1)
        assert cache.expire() == 25
        assert sum(isinstance(one, Value) for one in gc.get_objects()) == 25
        assert cache.expire() == 0

    def test_the_systems_clock_ends_a_life_too(self) -> None:
        cache: Cache[str, int] = Cache(10)
        cache.set("key", 1, ttl=0.01)
        wait_until(lambda: "key" not in cache)


class TestSize:
    def test_the_sizes_together_never_exceed_maxsize(self) -> None:
        cache: Cache[str, str] = Cache(10, getsizeof=len)
        for key, value in [("a", "xxxx"), ("b", "xxxx"), ("c", "xx")]:
            cache[key] = value
        assert (cache.currsize, len(cache)) == (10, 3)
        cache["d"] = "x"
        assert list(cache) == ["b", "c", "d"]
        cache["c"] = "xxxxxxxxx"
        assert dict(cache) == {"d": "x", "c": "xxxxxxxxx"}
        assert cache.currsize == 10

    def test_a_value_larger_than_the_cache_is_refused_and_the_older_one_forgotten(self) -> None:
        cache: Cache[str, str] = Cache(3, getsizeof=len)
        cache["key"], cache["other"] = "x", "xx"
        with pytest.raises(ValueError, match="4"):
            cache["key"] = "xxxx"
        assert dict(cache) == {"other": "xx"}

    @pytest.mark.parametrize(
        ("size", "error"), [(-1, ValueError), (2**70, OverflowError), (1.5, TypeError), (None, TypeError)]
    )
    def test_a_size_that_makes_no_sense_is_an_error_that_names_getsizeof(
        self, size: Any, error: type[Exception]
    ) -> None:
        cache: Cache[str, str] = Cache(10, getsizeof=lambda value: size)
        with pytest.raises(error, match="getsizeof"):
            cache["key"] = "value"
        assert len(cache) == 0

    def test_an_error_of_getsizeof_reaches_the_caller(self) -> None:
        cache: Cache[str, Any] = Cache(10, getsizeof=len)
        with pytest.raises(TypeError):
            cache["key"] = 1
        assert len(cache) == 0

    def test_resizing_evicts_at_once_and_growing_makes_room(self) -> None:
        cache: Cache[int, int] = Cache(10)
        for key in range(10):
            cache[key] = key
        cache.resize(3)
        assert list(cache) == [7, 8, 9]
        cache.resize(5)
        cache[10] = cache[11] = 0
        assert list(cache) == [7, 8, 9, 10, 11]
        with pytest.raises(ValueError, match="maxsize"):
            cache.resize(0)
        assert cache.maxsize == 5


class TestListener:
    def test_it_is_told_of_everything_that_leaves_and_why(self, clock: Clock) -> None:
        told: list[tuple[str, int, str]] = []
        cache: Cache[str, int] = Cache(2, timer=clock, on_evict=lambda *entry: told.append(entry))
        cache["a"] = 1
        cache["a"] = 2
        cache["b"] = 3
        cache["c"] = 4
        cache.pop("b")
        cache.set("d", 5, ttl=1)
        clock.advance(1)
        cache.expire()
        cache.clear()
        assert told == [
            ("a", 1, "replaced"),
            ("a", 2, "size"),
            ("b", 3, "explicit"),
            ("d", 5, "expired"),
            ("c", 4, "explicit"),
        ]

    def test_its_errors_go_to_the_unraisable_hook_and_the_others_are_still_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[int] = []
        unraisable: list[type[BaseException] | None] = []

        def listener(key: int, value: int, cause: str) -> None:
            told.append(key)
            raise LookupError(key)

        monkeypatch.setattr(sys, "unraisablehook", lambda error: unraisable.append(error.exc_type))
        cache: Cache[int, int] = Cache(10, on_evict=listener)
        for key in range(5):
            cache[key] = key
        cache.clear()
        assert sorted(told) == [0, 1, 2, 3, 4]
        assert unraisable == [LookupError] * 5
        assert len(cache) == 0

    def test_it_may_call_the_cache(self) -> None:
        kept: Cache[int, int] = Cache(100)

        def listener(key: int, value: int, cause: str) -> None:
            kept[key] = value
            cache.get(key)
            cache.stats()

        cache: Cache[int, int] = Cache(3, on_evict=listener)
        for key in range(10):
            cache[key] = key
        assert sorted(kept) == list(range(7))


class TestTogether:
    def test_get_many_answers_in_order_with_the_default_for_what_is_missing(self) -> None:
        cache: Cache[Any, Any] = Cache(10)
        cache["a"], cache["b"] = 1, None
        assert cache.get_many(["b", "x", "a", "a"]) == [None, None, 1, 1]
        assert cache.get_many(["x"], default=0) == [0]
        assert cache.get_many(key for key in "ax") == [1, None]
        assert cache.get_many([]) == []

    def test_set_many_takes_a_mapping_and_delete_many_says_how_many_were_there(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(10, timer=clock)
        cache.set_many({"a": 1, "b": 2}, ttl=5)
        assert cache.expires_in("b") == 5
        assert cache.delete_many(["a", "x", "a"]) == 1
        assert list(cache) == ["b"]

    def test_get_or_set_computes_once_and_keeps_no_error(self) -> None:
        cache: Cache[str, int] = Cache(10)

        def fail() -> int:
            raise LookupError("no value")

        with pytest.raises(LookupError, match="no value"):
            cache.get_or_set("key", fail)
        assert "key" not in cache
        assert cache.get_or_set("key", lambda: 1) == 1
        assert cache.get_or_set("key", fail) == 1

    def test_incr_counts_from_the_default_and_keeps_the_deadline(self, clock: Clock) -> None:
        cache: Cache[str, Any] = Cache(10, timer=clock)
        assert cache.incr("hits", ttl=10) == 1
        clock.advance(4)
        assert cache.incr("hits", 5) == 6
        assert cache.incr("hits", 0.5) == 6.5
        assert cache.expires_in("hits") == 6
        assert cache.incr("from ten", -1, default=10) == 9
        cache["text"] = "x"
        with pytest.raises(TypeError):
            cache.incr("text")

    def test_setdefault_returns_what_is_there(self) -> None:
        cache: Cache[str, Any] = Cache(10)
        assert cache.setdefault("key", 1) == 1
        assert cache.setdefault("key", 2) == 1
        assert cache.setdefault("nothing") is None
        assert "nothing" in cache

    def test_stats_count_what_their_names_say(self, clock: Clock) -> None:
        cache: Cache[str, int] = Cache(2, timer=clock)
        cache["a"] = 1
        cache["a"] = 2
        cache.set("b", 3, ttl=1)
        cache.get("a")
        cache.get("x")
        clock.advance(1)
        cache.expire()
        cache["c"], cache["d"] = 4, 5
        del cache["d"]
        counts = {name: count for name, count in cache.stats().as_dict().items() if count}
        assert counts == {
            "hits": 1,
            "misses": 1,
            "inserted": 4,
            "replaced": 1,
            "expired": 1,
            "evicted": 1,
            "removed": 1,
        }
        assert cache.stats().hit_ratio == 0.5

    def test_a_with_statement_clears_at_its_end(self) -> None:
        with Cache[str, int](10) as cache:
            cache["key"] = 1
            assert len(cache) == 1
        assert len(cache) == 0


def test_no_argument_whatever_ends_in_a_panic() -> None:
    """A Rust panic would be a BaseException that `except Exception` doesn't catch."""
    cache: Cache[Any, Any] = Cache(100)
    strange: list[Any] = [None, -1, 0, 2**64, 10**40, 1.5, math.nan, math.inf, "", b"", [], {}, object(), cache, type]
    methods = [
        name
        for name in dir(cache)
        if not name.startswith("__") or name in ("__getitem__", "__setitem__", "__contains__")
    ]
    for name in methods:
        member: Callable[..., object] = getattr(cache, name)
        if not callable(member):
            continue
        for arguments in [(), *((one,) for one in strange), *((one, other) for one in strange for other in strange)]:
            try:
                member(*arguments)
            except Exception:
                continue
            if name == "resize":
                cache.resize(100)
    assert len(cache) <= cache.maxsize
