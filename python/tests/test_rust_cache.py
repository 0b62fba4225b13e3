"""`RustCache`, sentence by sentence: what its users were promised."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import wait_until

from sark_cache import RustCache

FOREVER = 10**6
"""A time-to-live in seconds that no test outlives."""


@pytest.fixture
def cache() -> RustCache:
    return RustCache(100, FOREVER)


class TestConstruction:
    @pytest.mark.parametrize("argument", ["max_size", "ttl_secs"])
    @pytest.mark.parametrize("value", [0, -1, -(10**30)])
    def test_zero_and_less_are_refused_with_the_arguments_name_and_value(self, argument: str, value: int) -> None:
        arguments = {"max_size": 10, "ttl_secs": 10, argument: value}
        with pytest.raises(ValueError, match=rf"{argument}.*{value}"):
            RustCache(**arguments)

    @pytest.mark.parametrize("argument", ["max_size", "ttl_secs"])
    @pytest.mark.parametrize("value", ["10", None, 1.5, b"1"])
    def test_what_is_no_int_is_a_type_error_that_names_the_argument(self, argument: str, value: Any) -> None:
        arguments: dict[str, Any] = {"max_size": 10, "ttl_secs": 10, argument: value}
        with pytest.raises(TypeError, match=argument):
            RustCache(**arguments)

    def test_a_time_to_live_longer_than_any_clock_lasts(self) -> None:
        cache = RustCache(10, 10**40)
        cache.set("key", "value")
        assert cache.get("key") == "value"

    def test_a_capacity_larger_than_any_memory_allocates_nothing_yet(self) -> None:
        cache = RustCache(10**40, 10)
        cache.set("key", "value")
        assert cache.size() == 1

    def test_arguments_may_be_given_by_position_and_by_name(self) -> None:
        assert RustCache(5, 7).size() == RustCache(max_size=5, ttl_secs=7).size() == 0


class TestGetAndSet:
    def test_what_was_set_is_got(self, cache: RustCache) -> None:
        assert cache.set("key", "value") is None  # type: ignore[func-returns-value]
        assert cache.get("key") == "value"

    def test_an_unknown_key_is_none(self, cache: RustCache) -> None:
        assert cache.get("key") is None

    def test_a_second_set_replaces_the_first(self, cache: RustCache) -> None:
        cache.set("key", "old")
        cache.set("key", "new")
        assert cache.get("key") == "new"
        assert cache.size() == 1

    @pytest.mark.parametrize("text", ["", "\0", "a\0b", "é", "漢字", "🦀", "x" * 1_000_000, "\ud7ff\ue000\U0010ffff"])
    def test_any_text_survives_as_key_and_as_value(self, cache: RustCache, text: str) -> None:
        cache.set(text, text)
        assert cache.get(text) == text

    def test_a_str_subclass_comes_back_as_str(self, cache: RustCache) -> None:
        class Name(str):
            pass

        cache.set(Name("key"), Name("value"))
        assert type(cache.get("key")) is str
        assert cache.get(Name("key")) == "value"

    @pytest.mark.parametrize("wrong", [1, None, b"bytes", ("tuple",)])
    def test_keys_and_values_that_are_no_str_are_type_errors(self, cache: RustCache, wrong: Any) -> None:
        operations: list[Callable[[], object]] = [
            lambda: cache.get(wrong),
            lambda: cache.set(wrong, "value"),
            lambda: cache.set("key", wrong),
            lambda: cache.delete(wrong),
            lambda: cache.get_with_ttl(wrong),
            lambda: cache.get_many([wrong]),
            lambda: cache.set_many({wrong: "value"}),
            lambda: cache.set_many({"key": wrong}),
            lambda: cache.delete_many([wrong]),
            lambda: wrong in cache,
        ]
        for operation in operations:
            with pytest.raises(TypeError):
                operation()
        assert cache.size() == 0

    def test_lone_surrogates_are_a_unicode_encode_error_everywhere(self, cache: RustCache) -> None:
        lone = "lone \ud800"
        operations: list[Callable[[], object]] = [
            lambda: cache.get(lone),
            lambda: cache.set(lone, "value"),
            lambda: cache.set("key", lone),
            lambda: cache.delete(lone),
            lambda: cache.get_with_ttl(lone),
            lambda: cache.get_many(["key", lone]),
            lambda: cache.set_many({lone: "value"}),
            lambda: cache.set_many({"key": lone}),
            lambda: cache.delete_many([lone]),
            lambda: lone in cache,
        ]
        for operation in operations:
            with pytest.raises(UnicodeEncodeError, match="surrogates"):
                operation()
        assert cache.size() == 0


class TestTimeToLive:
    def test_the_third_argument_may_be_positional_or_named(self, cache: RustCache) -> None:
        cache.set("position", "value", 60)
        cache.set("name", "value", ttl=60)
        for key in ("position", "name"):
            assert cache.get_with_ttl(key) == ("value", pytest.approx(60, abs=5), 60.0)

    @pytest.mark.parametrize("ttl", [30, 30.0, True, 0.75])
    def test_seconds_may_be_int_or_float(self, cache: RustCache, ttl: float) -> None:
        cache.set("key", "value", ttl)
        found = cache.get_with_ttl("key")
        assert found is not None
        value, remaining, stored_for = found
        assert (value, stored_for) == ("value", float(ttl))
        assert 0 < remaining <= ttl

    def test_without_one_the_caches_own_counts(self) -> None:
        cache = RustCache(10, 90)
        for ttl in ((), (None,)):
            cache.set("key", "value", *ttl)
            assert cache.get_with_ttl("key") == ("value", pytest.approx(90, abs=5), 90.0)

    @pytest.mark.parametrize("zero", [0, 0.0, -0.0, False])
    def test_zero_stores_nothing_and_forgets_an_older_value(self, cache: RustCache, zero: float) -> None:
        cache.set("old", "value")
        cache.set("old", "newer", zero)
        cache.set("new", "value", zero)
        assert cache.get("old") is None
        assert cache.get("new") is None
        assert cache.size() == 0

    @pytest.mark.parametrize("ttl", [1e300, math.inf, 10**30, 2**63, 2**64, 1e18])
    def test_absurdly_large_lasts(self, cache: RustCache, ttl: float) -> None:
        cache.set("key", "value", ttl)
        assert cache.get("key") == "value"
        found = cache.get_with_ttl("key")
        assert found is not None
        assert found[1] > FOREVER
        assert cache.cleanup_expired() == 0

    @pytest.mark.parametrize("ttl", [-1, -0.001, -math.inf, math.nan, -(10**30)])
    def test_negative_and_nan_are_value_errors_that_name_it_and_change_nothing(
        self, cache: RustCache, ttl: float
    ) -> None:
        cache.set("key", "old")
        with pytest.raises(ValueError, match="ttl"):
            cache.set("key", "new", ttl)
        with pytest.raises(ValueError, match="ttl"):
            cache.set_many({"key": "new"}, ttl=ttl)
        assert cache.get("key") == "old"

    @pytest.mark.parametrize("ttl", ["60", [], 1j])
    def test_what_is_no_number_is_a_type_error_that_names_it(self, cache: RustCache, ttl: Any) -> None:
        with pytest.raises(TypeError, match="ttl"):
            cache.set("key", "value", ttl)

    def test_an_expired_entry_is_never_served(self) -> None:
        cache = RustCache(10, FOREVER)
        ttl = 0.02
        cache.set("key", "value", ttl)
        stored_by = time.monotonic()
        asked = stored_by
        while cache.get("key") is not None:
            assert asked < stored_by + ttl
            asked = time.monotonic()
        assert cache.get("key") is None
        assert "key" not in cache
        assert cache.get_with_ttl("key") is None

    def test_the_caches_own_time_to_live_ends_too(self) -> None:
        cache = RustCache(10, 1)
        cache.set("key", "value")
        assert cache.get("key") == "value"
        wait_until(lambda: cache.get("key") is None)
        assert cache.size() == 0

    def test_a_hit_does_not_extend_it(self) -> None:
        cache = RustCache(10, FOREVER)
        cache.set("key", "value", 0.02)
        wait_until(lambda: cache.get("key") is None, seconds=10)

    def test_what_remains_only_shrinks(self, cache: RustCache) -> None:
        cache.set("key", "value", 60)
        left = [found[1] for found in (cache.get_with_ttl("key") for _ in range(100)) if found is not None]
        assert len(left) == 100
        assert left == sorted(left, reverse=True)

    def test_get_with_ttl_counts_as_a_use(self) -> None:
        cache = RustCache(2, FOREVER)
        cache.set("a", "1")
        cache.set("b", "2")
        assert cache.get_with_ttl("a") is not None
        cache.set("c", "3")
        assert cache.get_many(["a", "b", "c"]) == ["1", None, "3"]

    def test_get_with_ttl_of_an_unknown_key_is_none(self, cache: RustCache) -> None:
        assert cache.get_with_ttl("key") is None


class TestRemoval:
    def test_delete_says_whether_it_was_there(self, cache: RustCache) -> None:
        cache.set("key", "value")
        assert cache.delete("key") is True
        assert cache.delete("key") is False
        assert cache.get("key") is None

    def test_deleting_what_expired_says_that_it_was_not_there(self) -> None:
        cache = RustCache(10, FOREVER)
        cache.set("key", "value", 0.001)
        wait_until(lambda: "key" not in cache)
        assert cache.delete("key") is False

    def test_clear_forgets_everything_and_the_cache_goes_on(self, cache: RustCache) -> None:
        cache.set_many({str(number): "value" for number in range(50)})
        cache.clear()
        assert cache.size() == 0
        assert cache.get("1") is None
        cache.set("1", "again")
        assert cache.get("1") == "again"

    def test_cleanup_counts_each_expired_entry_once_whoever_reclaimed_it(self) -> None:
        cache = RustCache(100, FOREVER)
        for number in range(30):
            cache.set(str(number), "value", 0.001)
        cache.set("stays", "value")
        wait_until(lambda: cache.size() == 1)
        assert cache.cleanup_expired() == 30
        assert cache.cleanup_expired() == 0
        cache.set("one more", "value", 0.001)
        wait_until(lambda: cache.cleanup_expired() == 1)
        assert cache.get("stays") == "value"

    def test_what_was_evicted_or_deleted_did_not_expire(self) -> None:
        cache = RustCache(2, FOREVER)
        for number in range(10):
            cache.set(str(number), "value", 3600)
        cache.delete("9")
        cache.clear()
        assert cache.cleanup_expired() == 0


class TestSize:
    def test_as_many_distinct_entries_as_max_size_all_stay(self) -> None:
        for size in (1, 2, 100, 5000):
            cache = RustCache(size, FOREVER)
            for number in range(size):
                cache.set(str(number), "value")
                assert cache.size() == number + 1
            assert cache.get_many(str(number) for number in range(size)) == ["value"] * size

    def test_it_is_never_above_max_size_and_the_least_recently_used_leaves(self) -> None:
        cache = RustCache(3, FOREVER)
        for key in "abc":
            cache.set(key, key)
        cache.get("a")
        cache.set("b", "used by being set")
        cache.set("d", "d")
        assert cache.size() == 3
        assert cache.get_many("abcd") == ["a", "used by being set", None, "d"]

    def test_asking_whether_a_key_is_there_is_not_a_use(self) -> None:
        cache = RustCache(2, FOREVER)
        cache.set("a", "a")
        cache.set("b", "b")
        assert "a" in cache
        cache.set("c", "c")
        assert "a" not in cache

    def test_len_is_size(self, cache: RustCache) -> None:
        cache.set_many({"a": "1", "b": "2"})
        assert len(cache) == cache.size() == 2

    def test_an_empty_cache_is_told_by_its_size_not_by_truth_of_an_entry(self, cache: RustCache) -> None:
        assert not cache
        cache.set("", "")
        assert cache

    def test_the_repr_tells_the_size(self, cache: RustCache) -> None:
        assert repr(cache) == "RustCache(size=0)"
        cache.set("key", "value")
        assert repr(cache) == "RustCache(size=1)"


class TestBatches:
    def test_get_many_answers_in_the_order_of_the_keys_repeated_ones_too(self, cache: RustCache) -> None:
        cache.set_many({"a": "1", "b": "2"})
        assert cache.get_many(["b", "x", "a", "b"]) == ["2", None, "1", "2"]
        assert cache.get_many(()) == []
        assert cache.get_many(key for key in "ab") == ["1", "2"]
        assert cache.get_many({"a": None}.keys()) == ["1"]

    def test_set_many_stores_all_for_one_time_to_live(self, cache: RustCache) -> None:
        cache.set_many({"a": "1", "b": "2"}, 60)
        cache.set_many({"c": "3"}, ttl=0)
        assert cache.get_with_ttl("a") == ("1", pytest.approx(60, abs=5), 60.0)
        assert cache.get("c") is None
        cache.set_many({"a": "1"}, 0)
        assert cache.get("a") is None

    def test_set_many_of_more_than_fits_keeps_the_last(self) -> None:
        cache = RustCache(10, FOREVER)
        cache.set_many({str(number): "value" for number in range(25)})
        assert cache.size() == 10
        assert cache.get_many(str(number) for number in range(25)) == [None] * 15 + ["value"] * 10

    def test_delete_many_says_how_many_were_there(self, cache: RustCache) -> None:
        cache.set_many({"a": "1", "b": "2", "c": "3"})
        assert cache.delete_many(["a", "x", "b", "a"]) == 2
        assert cache.size() == 1

    def test_an_error_while_the_keys_are_listed_reaches_the_caller(self, cache: RustCache) -> None:
        def keys() -> Any:
            yield "a"
            raise LookupError("no more")

        for operation in (cache.get_many, cache.delete_many):
            with pytest.raises(LookupError, match="no more"):
                operation(keys())

    @pytest.mark.parametrize("wrong", [1, None])
    def test_what_cannot_be_listed_is_a_type_error(self, cache: RustCache, wrong: Any) -> None:
        for operation in (cache.get_many, cache.set_many, cache.delete_many):
            with pytest.raises(TypeError):
                operation(wrong)


class TestStats:
    def test_every_count_is_of_what_its_name_says(self) -> None:
        cache = RustCache(2, FOREVER)
        cache.set("a", "1")
        cache.set("b", "2")
        cache.set("b", "3")
        cache.set("c", "4")
        cache.get("b")
        cache.get("a")
        cache.get("x")
        cache.delete("c")
        stats = cache.stats()
        counts = {name: count for name, count in stats.as_dict().items() if count}
        assert counts == {"hits": 1, "misses": 2, "inserted": 3, "replaced": 1, "evicted": 1, "removed": 1}
        assert stats.hit_ratio == pytest.approx(1 / 3)

    def test_the_hit_ratio_of_nothing_is_zero(self, cache: RustCache) -> None:
        assert cache.stats().hit_ratio == 0.0

    def test_expired_entries_are_counted(self, cache: RustCache) -> None:
        cache.set("key", "value", 0.001)
        wait_until(lambda: cache.size() == 0)
        assert cache.stats().expired == 1

    def test_they_are_of_one_moment_and_compare(self, cache: RustCache) -> None:
        before = cache.stats()
        assert before == cache.stats()
        cache.get("key")
        assert before != cache.stats()
        assert before.misses == 0


def test_no_argument_whatever_ends_in_a_panic(cache: RustCache) -> None:
    """A Rust panic would be a BaseException that `except Exception` doesn't catch."""
    strange: list[Any] = [
        None,
        -1,
        0,
        2**64,
        10**40,
        1.5,
        math.nan,
        math.inf,
        "",
        "\ud800",
        b"",
        [],
        {},
        object(),
        cache,
        type,
    ]
    methods = ["get", "set", "delete", "get_with_ttl", "get_many", "set_many", "delete_many", "clear", "size", "stats"]
    for name in methods:
        for arguments in [(), *((one,) for one in strange), *((one, other) for one in strange for other in strange)]:
            try:
                getattr(cache, name)(*arguments)
            except Exception:
                continue
            for third in strange if name == "set" and len(arguments) == 2 else ():
                try:
                    cache.set(*arguments, third)
                except Exception:
                    continue
    assert cache.size() <= 100
