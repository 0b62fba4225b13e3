"""`multiprocessing`, by fork and by spawn: caches in workers, as inherited globals and as arguments."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from sark_cache import Cache, RustCache

CACHE: Cache[int, int] = Cache(100, ttl=3600)
STRINGS = RustCache(100, 3600)

METHODS = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]

# Forking is what is tested here. From 3.12 on, Python warns about it if there are threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def square_with_own_cache(number: int) -> int:
    STRINGS.set(str(number), str(number * number))
    assert STRINGS.get(str(number)) == str(number * number)
    return CACHE.get_or_set(number, lambda: number * number)


def what_was_inherited(_: int) -> tuple[int, int]:
    return len(CACHE), STRINGS.size()


def changed_by_a_worker(cache: Cache[Any, Any]) -> Cache[Any, Any]:
    cache["seen"] = dict(cache)
    return cache


@pytest.mark.parametrize("method", METHODS)
def test_workers_compute_with_caches_of_their_own(method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(square_with_own_cache, list(range(50)) * 4) == [number**2 for number in range(50)] * 4


@pytest.mark.parametrize("method", METHODS)
def test_forked_workers_inherit_what_was_loaded_and_spawned_ones_begin_empty(method: str) -> None:
    CACHE.clear()
    STRINGS.clear()
    CACHE.update((number, number) for number in range(7))
    STRINGS.set_many({str(number): "x" for number in range(5)})
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert set(pool.map(what_was_inherited, range(8))) == {(7, 5) if method == "fork" else (0, 0)}


@pytest.mark.parametrize("method", METHODS)
def test_a_cache_travels_to_a_worker_and_back_as_a_copy(method: str) -> None:
    cache: Cache[Any, Any] = Cache(10, ttl=3600, name="traveller")
    cache["key"] = "value"
    with multiprocessing.get_context(method).Pool(1) as pool:
        returned = pool.apply(changed_by_a_worker, (cache,))
    assert returned["seen"] == {"key": "value"}
    assert (returned.maxsize, returned.name) == (10, "traveller")
    assert "seen" not in cache
