"""What type checkers must report about `Cache`. Checked by mypy --strict and pyright, and run as a test.

A line with `type: ignore` must be an error: if it weren't, mypy would report the comment as unused.
"""

from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView

from typing_extensions import assert_type

from sark_cache import Cache, Stats

cache: Cache[str, int] = Cache(10, ttl=60, tti=2.5, name="numbers")
assert_type(Cache[str, int](10), Cache[str, int])

cache["one"] = 1
assert_type(cache["one"], int)
assert_type(cache.get("one"), "int | None")
assert_type(cache.get("one", "none"), "int | str")
assert_type(cache.peek("one"), "int | None")
assert_type(cache.set("two", 2, ttl=0.5), None)
assert_type(cache.pop("one"), int)
assert_type(cache.pop("one", None), "int | None")
assert_type(cache.setdefault("one", 1), int)
assert_type(cache.get_or_set("three", lambda: 3, ttl=60), int)
assert_type(cache.get_many(["one"]), "list[int | None]")
assert_type(cache.get_many(["one"], default="none"), "list[int | str]")
assert_type(cache.incr("count", 2), int)
assert_type(cache.touch("one", 60), bool)
assert_type(cache.expires_in("one"), "float | None")
assert_type(cache.popitem(), "tuple[str, int]")
assert_type(cache.set_many({"four": 4}), None)
assert_type(cache.delete_many(["four"]), int)
cache.update({"five": 5}, six=6)
assert_type(cache.stats(), Stats)
assert_type(cache.currsize, int)
assert_type(cache.ttl, "float | None")
assert_type("one" in cache, bool)
assert_type(len(cache), int)
assert_type(iter(cache), Iterator[str])
assert_type(cache.keys(), KeysView[str])
assert_type(cache.values(), ValuesView[int])
assert_type(cache.items(), ItemsView[str, int])

with cache as entered:
    assert_type(entered, Cache[str, int])


def total(mapping: MutableMapping[str, int]) -> int:
    """Takes any mutable mapping."""
    return sum(mapping.values())


assert_type(total(cache), int)


def listener(key: str, value: int, cause: str) -> None:
    """Takes what `on_evict` is called with."""


listened: Cache[str, int] = Cache(10, on_evict=listener, getsizeof=abs, timer=lambda: 0.0)


class Named(Cache[str, int]):
    """A subclass of one kind of cache."""


assert_type(Named(10).get("one"), "int | None")


def refused() -> None:
    """Never called: only type checkers read it."""
    cache["one"] = "1"  # type: ignore[assignment]
    cache.set(1, 1)  # type: ignore[arg-type]
    cache.get("one").bit_length()  # type: ignore[union-attr]
    Cache("10")  # type: ignore[arg-type]
    Cache(10, 60)  # type: ignore[call-arg]
