"""asyncio: caches shared by several event loops in several threads, and loops that are never blocked."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from sark_cache import Cache, cached

LOOPS = 4


def in_loops(main: object) -> None:
    """Runs main(number) in several event loops, each in its own thread. An error in any of them is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            asyncio.run(main(number))  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(LOOPS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "a loop hangs"
    if errors:
        raise errors[0]


def test_loops_in_several_threads_share_one_cache() -> None:
    cache: Cache[int, tuple[int, int]] = Cache(50)

    async def main(loop: int) -> None:
        async def task(number: int) -> None:
            for step in range(100):
                key = (number * 31 + step) % 120
                cache[key] = (key, loop)
                await asyncio.sleep(0)
                found = cache.get(key)
                assert found is None or found[0] == key

        await asyncio.gather(*(task(number) for number in range(20)))

    in_loops(main)
    assert len(cache) == 50


def test_a_decorated_coroutine_serves_loops_in_several_threads() -> None:
    called: Counter[int] = Counter()

    @cached(1000)
    async def square(number: int) -> int:
        called[number] += 1
        await asyncio.sleep(0.001)
        return number * number

    async def main(loop: int) -> None:
        for _ in range(3):
            answers = await asyncio.gather(*(square(number) for number in range(50) for _ in range(4)))
            assert answers == [number * number for number in range(50) for _ in range(4)]

    in_loops(main)
    # Tasks of one loop wait for the one that computes. Several loops may compute at the same time, but never
    # twice in one.
    assert set(called) == set(range(50))
    assert max(called.values()) <= LOOPS


def test_one_task_computes_for_all_that_ask_at_once() -> None:
    called = 0

    @cached(10)
    async def slow(key: str) -> object:
        nonlocal called
        called += 1
        await asyncio.sleep(0.01)
        return object()

    async def main() -> None:
        answers = await asyncio.gather(*(slow("key") for _ in range(100)))
        assert len(set(map(id, answers))) == 1

    asyncio.run(main())
    assert called == 1


def test_a_decorated_coroutine_outlives_the_loop_that_computed_first() -> None:
    @cached(10)
    async def name(key: int) -> str:
        await asyncio.sleep(0)
        return f"name of {key}"

    for _ in range(3):
        assert asyncio.run(name(1)) == "name of 1"
        assert asyncio.run(name(2)) == "name of 2"
    assert name.cache_info().misses == 2


def test_a_hit_never_suspends() -> None:
    @cached(10)
    async def constant(key: int) -> int:
        return key

    asyncio.run(constant(1))
    coroutine = constant(1)
    # Driven by hand, without a loop: a coroutine that suspended would yield instead of returning.
    try:
        coroutine.send(None)
    except StopIteration as finished:
        assert finished.value == 1
    else:
        raise AssertionError("it suspended")
