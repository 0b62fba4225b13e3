"""A million operations, and nothing grows: not the interpreter's blocks, not the process, not a reference count.

Each test runs in a fresh interpreter. It warms up until everything has its final size, and measures from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

PRELUDE = """
import gc, sys
from sark_cache import Cache, RustCache, cached

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4096

def steady(work, rounds=10):
    "Runs work() twice to warm up, then measures over some rounds of it."
    work(); work()
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    for _ in range(rounds):
        work()
    gc.collect()
    blocks, memory = sys.getallocatedblocks() - blocks, resident() - memory
    # Some blocks for what the interpreter itself remembers; a lost one per thousand operations would be a thousand.
    assert blocks < 300, f"{blocks} blocks"
    # One lost object per operation would be tens of megabytes.
    assert memory < 4 << 20, f"{memory} bytes"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    "program",
    [
        """
cache = Cache(1000)

def work(number=[0]):
    for _ in range(20_000):
        number[0] += 1
        key = "key %d" % number[0]
        cache[key] = [key]
        cache.get(key)
        cache.get("missing")
        cache.pop("key %d" % (number[0] - 500), None)
        cache.get_many([key, "missing"])

steady(work)
""",
        """
now = [0.0]
cache = Cache(1000, ttl=10, timer=lambda: now[0], getsizeof=lambda value: 1, on_evict=lambda key, value, cause: None)

def work():
    for number in range(10_000):
        now[0] += 0.05
        cache.set((number, "tuple"), object(), ttl=number % 30)
        cache.setdefault((number, "tuple"), None)
        cache.touch((number // 2, "tuple"), 5)
        cache.incr(number % 10)
        if number % 1000 == 0:
            cache.expire()
            list(cache.items())

steady(work)
""",
        """
class Key:
    def __init__(self, number): self.number = number
    def __eq__(self, other): return type(other) is Key and self.number == other.number
    def __hash__(self): return self.number % 8

cache = Cache(50)

def work():
    for number in range(5_000):
        cache[Key(number % 60)] = [number]
        cache.get(Key(number % 30))
        cache.pop(Key(number % 45), None)

steady(work)
""",
        """
cache = RustCache(1000, 3600)

def work(number=[0]):
    for _ in range(20_000):
        number[0] += 1
        key = "key %d" % number[0]
        cache.set(key, key * 3, number[0] % 5)
        cache.get(key)
        cache.get("missing")
        cache.get_many([key, "missing"])
        cache.get_with_ttl(key)
        cache.set_many({key: "x"})
        cache.delete("key %d" % (number[0] - 500))

steady(work)
""",
        """
@cached(100, ttl=60)
def square(number, *, power=2):
    if number == 7:
        raise LookupError
    return [number ** power]

def work():
    for number in range(20_000):
        square(number % 7)
        square(number + 8, power=3)
        try:
            square(7)
        except LookupError:
            pass

steady(work)
""",
        """
def work():
    for number in range(1_000):
        cache = Cache(100, ttl=60, on_evict=lambda key, value, cause: cache)
        cache["itself"] = cache
        for key in range(20):
            cache[key] = [cache]
        strings = RustCache(100, 60)
        strings.set("key", "value")

steady(work, rounds=5)
""",
    ],
    ids=["Cache", "Cache with everything", "Cache with users' keys", "RustCache", "cached", "caches that come and go"],
)
def test_nothing_grows(program: str, run_python: Callable[..., str]) -> None:
    run_python(PRELUDE + program, timeout=300)


def test_no_reference_is_lost_and_none_is_doubled(run_python: Callable[..., str]) -> None:
    run_python("""
import sys
from sark_cache import Cache

key, value, default = ("a", "key"), object(), object()

def counted():
    return [sys.getrefcount(key), sys.getrefcount(value), sys.getrefcount(default)]

plain = counted()

def held():
    return [now - before for now, before in zip(counted(), plain)]

cache = Cache(2)
for _ in range(1000):
    cache[key] = value
    assert cache[key] is cache.get(key, default) is cache.peek(key) is value
    assert cache.get_many([key, 1], default) == [value, default]
    assert cache.setdefault(key, default) is value
    assert cache.get("missing", default) is default
    assert cache.touch(key) and key in cache and cache.expires_in(key)
    assert list(cache) == [key] and list(cache.items()) == [(key, value)]
    assert held() == [1, 1, 0], held()
    cache[1] = cache[2] = default
    assert held() == [0, 0, 2], held()
    cache.set(key, value)
    assert cache.pop(key) is value
    cache.set(key, value)
    assert cache.popitem() is not None and cache.popitem() is not None
    assert held() == [0, 0, 0], held()
    for wrong in (
        lambda: cache[key],
        lambda: cache.set(key, value, ttl=-1),
        lambda: cache.incr(key, value),
        lambda: cache.pop(key),
    ):
        try:
            wrong()
        except (KeyError, ValueError, TypeError) as error:
            del error
    cache.set(key, value, ttl=0)
    assert held() == [0, 0, 0], held()
""")
