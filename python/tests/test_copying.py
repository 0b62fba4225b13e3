"""Caches as objects: pickled, copied, subclassed, weakly referenced, parametrised and collected."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Clock

from sark_cache import Cache, RustCache

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Named(Cache[str, int]):
    """A user's subclass, with its own constructor and attribute."""

    def __init__(self, label: str) -> None:
        super().__init__(10)
        self.label = label

    def double(self, key: str) -> int:
        return 2 * self[key]


class Counting(Cache[str, int]):
    """A subclass that keeps the constructor."""


class Slotted(Cache[str, int]):
    """A subclass whose attributes are slots."""

    __slots__ = ("__private", "never", "owner")

    def __init__(self, owner: str) -> None:
        super().__init__(10)
        self.owner = owner
        self.__private = 1

    def private(self) -> int:
        return self.__private


class Half(Slotted):
    """A subclass with both."""


class Reduced(Cache[str, int]):
    """A subclass that defines what makes up a copy."""

    def __reduce__(self) -> Any:
        return Reduced, (5,)


def through_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda cache: pickle.loads(pickle.dumps(cache, protocol))


WAYS: list[Any] = [pytest.param(through_pickle(protocol), id=f"pickle {protocol}") for protocol in PROTOCOLS]
WAYS += [pytest.param(copy.copy, id="copy"), pytest.param(copy.deepcopy, id="deepcopy")]


@pytest.mark.parametrize("duplicate", WAYS)
class TestDuplicates:
    def test_entries_come_along_in_their_order_of_use(self, duplicate: Callable[[Any], Any]) -> None:
        cache: Cache[Any, Any] = Cache(3, name="original")
        cache["a"], cache[("b", 2)], cache[None] = 1, [2], None
        cache["a"]
        twin = duplicate(cache)
        assert type(twin) is Cache
        assert list(twin.items()) == [(("b", 2), [2]), (None, None), ("a", 1)]
        assert (twin.maxsize, twin.name) == (3, "original")
        twin["c"] = 3
        assert ("b", 2) in cache
        assert ("b", 2) not in twin

    def test_so_do_settings_and_what_is_left_of_each_lifetime(self, duplicate: Callable[[Any], Any]) -> None:
        cache: Cache[str, int] = Cache(10, ttl=100, tti=1000, timer=Clock(), shards=2, getsizeof=abs)
        cache["default"] = 1
        cache.set("short", 2, ttl=5)
        twin = duplicate(cache)
        assert (twin.ttl, twin.tti, twin.shards, twin.currsize) == (100, 1000, 2, 3)
        assert twin.expires_in("default") == 100
        assert twin.expires_in("short") == 5
        twin["new"] = 8
        assert list(twin) == ["short", "new"]

    def test_what_is_dead_stays_behind(self, duplicate: Callable[[Any], Any]) -> None:
        clock = Clock()
        cache: Cache[str, int] = Cache(10, timer=clock)
        cache.set("dead", 1, ttl=1)
        cache["alive"] = 2
        clock.advance(1)
        assert dict(duplicate(cache)) == {"alive": 2}

    def test_statistics_begin_anew(self, duplicate: Callable[[Any], Any]) -> None:
        cache: Cache[str, int] = Cache(10)
        cache.get("key")
        assert duplicate(cache).stats().misses == 0

    def test_a_subclass_stays_one_with_its_attributes(self, duplicate: Callable[[Any], Any]) -> None:
        for cache in (Named("mine"), Counting(10)):
            cache["key"] = 21
            cache.attribute = ["of its own"]  # type: ignore[attr-defined]
            twin = duplicate(cache)
            assert type(twin) is type(cache)
            assert twin["key"] == 21
            assert twin.attribute == ["of its own"]
        assert duplicate(Named("mine")).label == "mine"

    def test_so_does_one_with_slots(self, duplicate: Callable[[Any], Any]) -> None:
        for cache in (Slotted("mine"), Half("mine")):
            cache["key"] = 21
            twin = duplicate(cache)
            assert type(twin) is type(cache)
            assert (twin["key"], twin.owner, twin.private()) == (21, "mine", 1)
            assert not hasattr(twin, "never")
        half = Half("mine")
        half.attribute = "of its own"  # type: ignore[attr-defined]
        twin = duplicate(half)
        assert (twin.owner, twin.attribute) == ("mine", "of its own")

    def test_a_subclass_that_says_how_is_asked(self, duplicate: Callable[[Any], Any]) -> None:
        twin = duplicate(Reduced(10))
        assert (type(twin), twin.maxsize) == (Reduced, 5)


def test_a_copy_shares_its_objects_and_a_deep_one_has_its_own() -> None:
    cache: Cache[str, list[int]] = Cache(10)
    cache["key"] = [1]
    assert copy.copy(cache)["key"] is cache["key"]
    assert copy.deepcopy(cache)["key"] == cache["key"]
    assert copy.deepcopy(cache)["key"] is not cache["key"]


def test_a_cache_that_holds_itself_can_be_copied_and_pickled() -> None:
    cache: Cache[str, Any] = Cache(10)
    cache["itself"] = cache
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert twin["itself"] is twin


def test_a_subclass_behaves_as_one() -> None:
    cache = Named("mine")
    cache["key"] = 21
    assert cache.double("key") == 42
    assert isinstance(cache, Cache)

    class Strings(RustCache):
        def get(self, key: str) -> str | None:
            return super().get(key.lower())

    strings = Strings(10, 60)
    strings.set("key", "value")
    assert strings.get("KEY") == "value"


def test_a_subclass_that_forgets_the_constructor_is_told() -> None:
    class Forgetful(Cache[str, int]):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful()["key"] = 1


def test_it_can_be_parametrised_at_run_time() -> None:
    alias = Cache[str, int]
    cache = alias(10)
    assert type(cache) is Cache
    cache["key"] = 1
    assert cache["key"] == 1


@pytest.mark.parametrize("make", [lambda: Cache(10), lambda: RustCache(10, 60)], ids=["Cache", "RustCache"])
def test_a_cache_can_be_referred_to_weakly(make: Callable[[], object]) -> None:
    cache = make()
    reference = weakref.ref(cache)
    assert reference() is cache
    del cache
    gc.collect()
    assert reference() is None


class Value:
    """Something that weak references can refer to."""


def test_what_leaves_is_let_go_of_at_once() -> None:
    cache: Cache[int, Value] = Cache(2)
    references = []
    for key in (1, 2, 3, 3):
        value = Value()
        references.append(weakref.ref(value))
        cache[key] = value
        del value
    # Evicted, still there, replaced, still there.
    assert [reference() is not None for reference in references] == [False, True, False, True]
    cache.pop(2)
    cache.clear()
    assert not any(reference() for reference in references)


CYCLES: dict[str, Callable[[Any, Any], object]] = {
    "value": lambda cache, value: cache.set("key", value),
    "key": lambda cache, value: cache.set(value, "value"),
    "inside a list": lambda cache, value: cache.set("key", [{"deep": (value,)}]),
}


@pytest.mark.parametrize("store", CYCLES.values(), ids=CYCLES.keys())
def test_a_cycle_through_a_cache_is_collected(store: Callable[[Any, Any], object]) -> None:
    cache: Cache[Any, Any] = Cache(10)
    value = Value()
    value.cache = cache  # type: ignore[attr-defined]
    store(cache, value)
    reference = weakref.ref(value)
    del cache, value
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("hook", ["on_evict", "getsizeof", "timer"])
def test_a_cycle_through_a_function_of_the_cache_is_collected(hook: str) -> None:
    class Owner:
        def __init__(self) -> None:
            self.cache: Cache[str, int] = Cache(10, ttl=60, **{hook: self.called})

        def called(self, *arguments: object) -> int:
            return 1

    owner = Owner()
    owner.cache["key"] = 1
    reference = weakref.ref(owner)
    del owner
    gc.collect()
    assert reference() is None


def test_collecting_garbage_takes_nothing_from_a_live_cache() -> None:
    cache: Cache[Any, Any] = Cache(1000)
    for number in range(1000):
        cache[(number,)] = [number]
    for _ in range(3):
        gc.collect()
    assert list(cache.items()) == [((number,), [number]) for number in range(1000)]
