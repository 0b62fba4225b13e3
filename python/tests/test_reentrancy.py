"""Keys, values and callbacks that call the cache back, change it, raise, sleep or switch threads.

No shard is owned while any of them runs, so nothing hangs, nothing is corrupted, and equal keys never become
two entries.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sark_cache import Cache


@pytest.fixture
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Key:
    """A key equal by name, with the same hash as all others, that does something whenever it is compared or hashed."""

    def __init__(
        self, name: str, on_eq: Callable[[], object] | None = None, on_hash: Callable[[], object] | None = None
    ) -> None:
        self.name = name
        self.on_eq = on_eq
        self.on_hash = on_hash

    def __hash__(self) -> int:
        if self.on_hash:
            self.on_hash()
        return 42

    def __eq__(self, other: object) -> bool:
        if self.on_eq:
            self.on_eq()
        return isinstance(other, Key) and self.name == other.name


# Everything that looks a key up, as (name, call).
OPERATIONS: list[tuple[str, Callable[[Cache[Any, Any], Any], object]]] = [
    ("get", lambda cache, key: cache.get(key)),
    ("getitem", lambda cache, key: cache[key]),
    ("contains", lambda cache, key: key in cache),
    ("set", lambda cache, key: cache.set(key, 0)),
    ("setitem", lambda cache, key: cache.__setitem__(key, 0)),
    ("pop", lambda cache, key: cache.pop(key, None)),
    ("setdefault", lambda cache, key: cache.setdefault(key, 0)),
    ("touch", lambda cache, key: cache.touch(key, 60)),
    ("peek", lambda cache, key: cache.peek(key)),
    ("expires_in", lambda cache, key: cache.expires_in(key)),
    ("get_many", lambda cache, key: cache.get_many([key, key])),
    ("set_many", lambda cache, key: cache.set_many([(key, 0)])),
    ("delete_many", lambda cache, key: cache.delete_many([key])),
    ("get_or_set", lambda cache, key: cache.get_or_set(key, lambda: 0)),
    ("incr", lambda cache, key: cache.incr(key)),
]
operations = pytest.mark.parametrize(
    "operation", [call for _, call in OPERATIONS], ids=[name for name, _ in OPERATIONS]
)


@operations
def test_a_comparison_may_call_the_cache_back(operation: Callable[[Cache[Any, Any], Any], object]) -> None:
    cache: Cache[Any, Any] = Cache(100)
    seen = []

    def call_back() -> None:
        if len(seen) < 50:
            seen.append(len(cache))
            cache.get("other")
            cache["other"] = len(seen)
            list(cache.items())

    cache[Key("a", on_eq=call_back)] = 1
    operation(cache, Key("a"))
    assert seen
    assert cache["other"] == len(seen)


@operations
def test_a_hash_may_call_the_cache_back(operation: Callable[[Cache[Any, Any], Any], object]) -> None:
    cache: Cache[Any, Any] = Cache(100)
    cache[Key("a")] = 1
    operation(cache, Key("a", on_hash=lambda: cache.set("other", 1)))
    assert cache["other"] == 1


@operations
def test_an_exception_of_a_comparison_reaches_the_caller_and_changes_nothing(
    operation: Callable[[Cache[Any, Any], Any], object],
) -> None:
    cache: Cache[Any, Any] = Cache(100)

    def fail() -> None:
        raise LookupError("no")

    cache[Key("a")] = 1
    for sought in (Key("a", on_hash=fail), Key("b")):
        stored = next(iter(cache))
        stored.on_eq = fail
        with pytest.raises(LookupError, match="no"):
            operation(cache, sought)
        stored.on_eq = None
        assert list(cache.items()) == [(stored, 1)]


@operations
@pytest.mark.parametrize("change", ["remove", "replace", "clear", "evict"])
def test_a_comparison_may_take_away_what_is_compared(
    operation: Callable[[Cache[Any, Any], Any], object], change: str
) -> None:
    cache: Cache[Any, Any] = Cache(3)
    changed = []

    def take_away() -> None:
        if changed:
            return
        changed.append(1)
        if change == "remove":
            cache.popitem()
        elif change == "replace":
            cache.popitem()
            cache[Key("a")] = 2
        elif change == "clear":
            cache.clear()
        else:
            for number in range(3):
                cache[number] = number

    cache[Key("a", on_eq=take_away)] = 1
    try:
        operation(cache, Key("a"))
    except KeyError:
        assert change != "replace"
    assert changed
    assert sum(isinstance(key, Key) for key in cache) <= 1
    assert len(cache) <= 3


def test_a_comparison_that_inserts_the_very_key_makes_no_second_entry() -> None:
    cache: Cache[Any, Any] = Cache(100)
    inserted = []

    def insert_equal() -> None:
        if not inserted:
            inserted.append(1)
            cache[Key("new")] = "from within"

    cache[Key("other", on_eq=insert_equal)] = 0
    cache[Key("new")] = "from outside"
    assert cache[Key("new")] == "from outside"
    assert len(cache) == 2


def test_a_cache_that_changes_at_each_comparison_is_a_runtime_error_and_no_hang() -> None:
    cache: Cache[Any, Any] = Cache(1000)

    inside: list[int] = []

    def come_and_go() -> None:
        if not inside:
            inside.append(1)
            cache[Key("passing by")] = 0
            del cache[Key("passing by")]
            inside.pop()

    stored = Key("stored", on_eq=come_and_go)
    cache[stored] = 0
    with pytest.raises(RuntimeError, match="64"):
        cache[Key("sought")] = 1
    stored.on_eq = None
    assert list(cache) == [stored]
    cache[Key("sought")] = 1


def test_a_destructor_may_call_the_cache_that_dropped_it() -> None:
    cache: Cache[Any, Any] = Cache(2)
    heard = []

    class Value:
        def __init__(self, name: int) -> None:
            self.name = name

        def __del__(self) -> None:
            heard.append(self.name)
            cache.get(self.name)
            cache[f"after {self.name}"] = self.name
            cache.pop(f"after {self.name}")

    for number in range(10):
        cache[number] = Value(number)
    cache[9] = Value(10)
    cache.pop(9)
    cache.clear()
    gc.collect()
    assert sorted(heard) == list(range(11))
    assert len(cache) == 0


def test_a_destructor_that_raises_goes_to_the_hook_and_the_cache_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: unraisable.append(error.exc_type))

    class Value:
        def __del__(self) -> None:
            raise ArithmeticError

    cache: Cache[int, Any] = Cache(1)
    for number in range(5):
        cache[number] = Value()
    cache.clear()
    assert unraisable == [ArithmeticError] * 5


def test_an_error_during_shutdown_is_an_error_like_any_other(run_python: Callable[..., str]) -> None:
    printed = run_python(
        """
        import builtins, os, sys
        from sark_cache import Cache, cached

        class Last:
            cache = Cache(10)
            function = staticmethod(cached(10)(lambda argument: argument))

            # What it needs is in the class, for modules are empty by then.
            def __del__(self, KeyError=KeyError, TypeError=TypeError, write=os.write):
                try:
                    self.cache["missing"]
                except KeyError:
                    write(1, b"KeyError ")
                try:
                    self.function([])
                except TypeError:
                    write(1, b"TypeError ")

        # The interpreter drops the modules' dicts late, and this later still.
        builtins.last = Last()
        sys.last_of_all = Last()
        """
    )
    assert printed.split() == ["KeyError", "TypeError"] * 2


def test_listener_sizer_and_timer_may_call_the_cache() -> None:
    cache: Cache[Any, Any]
    told = []

    def listen(key: Any, value: Any, cause: str) -> None:
        told.append((key, cause))
        assert key not in cache or cause == "replaced"
        cache.get("anything")

    def size(value: Any) -> int:
        return 1 + 0 * len(cache)

    depth = []

    def time() -> float:
        if not depth:
            depth.append(1)
            cache.get("anything")
            depth.pop()
        return 0.0

    cache = Cache(2, ttl=60, on_evict=listen, getsizeof=size, timer=time)
    cache["a"] = cache["b"] = cache["c"] = 1
    cache["c"] = 2
    del cache["b"]
    assert told == [("a", "size"), ("c", "replaced"), ("b", "explicit")]


def test_threads_whose_keys_compare_slowly_never_make_two_entries_of_one(switching_often: None) -> None:
    cache: Cache[Any, Any] = Cache(50)
    errors: list[BaseException] = []
    pause = threading.Event()

    def compare_slowly() -> None:
        pause.wait(0)  # Releases the GIL.

    def work(seed: int) -> None:
        try:
            for step in range(300):
                key = Key(str((step * seed) % 7), on_eq=compare_slowly)
                try:
                    if step % 5 == 0:
                        cache.pop(key, None)
                    elif step % 3 == 0:
                        cache[key] = step
                    else:
                        cache.setdefault(key, step)
                except RuntimeError as error:
                    assert "64" in str(error)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "it hangs"
    assert not errors, errors
    names = [key.name for key in cache]
    assert len(names) == len(set(names)) <= 7


@pytest.mark.parametrize("place", ["key", "value", "both"])
def test_a_cycle_through_the_cache_is_collected_and_its_finalizers_may_use_it(place: str) -> None:
    finalized = []

    class Node:
        cache: Cache[Any, Any]

        def __del__(self) -> None:
            finalized.append(len(self.cache) >= 0)

    def build() -> weakref.ref[Cache[Any, Any]]:
        cache: Cache[Any, Any] = Cache(10)
        node = Node()
        node.cache = cache
        cache[node if place != "value" else "key"] = node if place != "key" else "value"
        return weakref.ref(cache)

    dead = build()
    gc.collect()
    assert dead() is None
    assert finalized == [True]


def test_the_collector_at_work_inside_every_operation_does_no_harm() -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        cache: Cache[Any, Any] = Cache(20, on_evict=lambda *entry: None)
        for number in range(500):
            garbage: list[Any] = []
            garbage.append(garbage)
            cache[(number % 30, "key")] = garbage
            cache.get((number % 7, "key"))
            cache.get_many([(n, "key") for n in range(10)])
            list(cache.items())
        assert len(cache) == 20
    finally:
        gc.set_threshold(*threshold)
