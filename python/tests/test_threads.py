"""Several threads on one cache: bounds hold at every moment, no update is lost, every value belongs to its key."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from sark_cache import Cache, RustCache

THREADS = 4


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Runs work(0), work(1), ... at the same time. An error in any of them is raised here."""
    start = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(timeout=120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_the_bound_holds_and_values_belong_to_their_keys_under_any_mixture() -> None:
    cache: Cache[int, tuple[int, int]] = Cache(50)

    def work(thread: int) -> None:
        number = thread + 1
        for step in range(5000):
            number = (number * 1103515245 + 12345) % 2**31
            key = number % 200
            found = cache.get(key)
            assert found is None or found[0] == key
            if step % 3:
                cache[key] = (key, thread)
            elif step % 2:
                cache.pop(key, None)
            else:
                assert all(
                    value is None or value[0] in range(key, key + 5) for value in cache.get_many(range(key, key + 5))
                )
            assert len(cache) <= 50

    together(work)
    assert all(key == value[0] for key, value in cache.items())


def test_no_increment_is_lost() -> None:
    cache: Cache[str, int] = Cache(10)
    together(lambda thread: [cache.incr("count") for _ in range(5000)] and None)
    assert cache["count"] == 5000 * THREADS


def test_of_all_who_set_a_default_one_wins() -> None:
    cache: Cache[int, object] = Cache(1000)
    got: list[list[object]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        for key in range(500):
            got[thread].append(cache.setdefault(key, object()))

    together(work)
    for answers in zip(*got, strict=True):
        assert len(set(map(id, answers))) == 1


def test_a_missing_value_is_computed_once_for_all_who_ask() -> None:
    cache: Cache[int, object] = Cache(1000)
    computed: list[int] = []

    def work(thread: int) -> None:
        for key in range(200):

            def factory(key: int = key) -> object:
                computed.append(key)
                return object()

            cache.get_or_set(key, factory)

    together(work)
    assert sorted(computed) == list(range(200))


def test_keys_that_python_compares_stay_single() -> None:
    class Key:
        def __init__(self, number: int) -> None:
            self.number = number

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key) and self.number == other.number

        def __hash__(self) -> int:
            return self.number % 3

    cache: Cache[Key, int] = Cache(100)

    def work(thread: int) -> None:
        for step in range(600):
            key = Key(step % 12)
            cache[key] = step
            if step % 5 == thread:
                cache.pop(Key(step % 7), None)

    together(work)
    numbers = [key.number for key in cache]
    assert len(numbers) == len(set(numbers)) <= 12


def test_iterating_while_others_change_everything() -> None:
    cache: Cache[int, int] = Cache(100)

    def work(thread: int) -> None:
        for step in range(300):
            if thread == 0:
                for key, value in cache.items():
                    assert key == value
            else:
                for key in range(step, step + 20):
                    cache[key] = key
                if step % 50 == 0:
                    cache.clear()

    together(work)


def test_resizing_while_others_insert_ends_within_the_bound() -> None:
    cache: Cache[int, int] = Cache(100)

    def work(thread: int) -> None:
        for step in range(1000):
            if thread == 0:
                cache.resize(10 + step % 90)
            else:
                cache[step * THREADS + thread] = step

    together(work)
    assert len(cache) <= cache.maxsize == 10 + 999 % 90


def test_strings_of_many_threads() -> None:
    cache = RustCache(50, 3600)

    def work(thread: int) -> None:
        for step in range(5000):
            key = str((step * 7 + thread) % 200)
            cache.set(key, f"{key}:{thread}")
            found = cache.get(key)
            assert found is None or found.startswith(f"{key}:")
            assert cache.size() <= 50
            if step % 100 == 0:
                cache.delete_many(map(str, range(20)))

    together(work)
    stats = cache.stats()
    assert stats.hits + stats.misses == 5000 * THREADS


def test_a_listener_is_told_of_each_value_exactly_once() -> None:
    left: list[int] = []
    cache: Cache[int, int] = Cache(20, on_evict=lambda key, value, cause: left.append(value))

    def work(thread: int) -> None:
        for step in range(2000):
            cache[step % 60] = step * THREADS + thread

    together(work)
    cache.clear()
    assert sorted(left) == list(range(2000 * THREADS))
