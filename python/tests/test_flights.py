"""One computation per key in the hard cases: finalizers and contexts that interfere, and what is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from conftest import wait_until

from sark_cache import Cache, _singleflight, cached


def test_a_finalizer_that_misses_while_another_miss_begins_crashes_nothing() -> None:
    program = """
from sark_cache import Cache, cached

audit, ended = Cache(100), 0

class Session:
    # Only the collector can free it, and then it misses in a cache.
    def __init__(self):
        self.itself = self

    def __del__(self):
        global ended
        ended += 1
        audit.get_or_set(ended, lambda: True)

@cached(1000)
def roles(user):
    return ["dev"]

@cached(1000)
def decide(user):
    Session()
    return bool(roles(user))

for user in range(100_000):
    decide(user)
assert ended > 10_000
"""
    # Not in development mode: whether this crashes depends on what is allocated where.
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class Interruption:
    """Calls a function before every line of the flights' code in this thread, while it is active.

    These are the places where a finalizer or a signal handler could run.
    """

    def __init__(self, handler: Callable[[], None]) -> None:
        self.handler = handler
        self.lines = 0

    def __enter__(self) -> Interruption:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != _singleflight.__file__:
            return None
        if event == "line":
            self.lines += 1
            sys.settrace(None)
            self.handler()
            sys.settrace(self._trace)
        return self._trace


def ends(work: Callable[[], None]) -> None:
    """Runs ``work`` in a thread, which has to end without raising anything."""
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: (work(), ended.append(True)), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it hangs"
    assert ended


def test_whatever_a_finalizer_asks_for_while_a_computation_begins_or_ends_it_does_not_wait_for_itself() -> None:
    cache: Cache[str, str] = Cache(10)
    other: Cache[str, str] = Cache(10)

    def ask() -> None:
        assert other.get_or_set("key", lambda: "other") == "other"
        other.clear()
        assert cache.get_or_set("key", lambda: "value") == "value"
        cache.clear()

    def work() -> None:
        with Interruption(ask) as interruption:
            assert cache.get_or_set("key", lambda: "value") == "value"
        assert interruption.lines > 10

    ends(work)


def test_whatever_a_finalizer_asks_for_while_a_coroutine_comes_to_wait_it_gets() -> None:
    other: Cache[str, str] = Cache(10)

    def ask() -> None:
        assert other.get_or_set("key", lambda: "other") == "other"
        other.clear()

    @cached(10)
    async def roles(user: str) -> str:
        await asyncio.sleep(0)
        return "dev"

    @cached(10)
    async def decide(tool: int) -> str:
        await asyncio.sleep(0)
        return await roles("ada")

    async def main() -> None:
        assert await asyncio.gather(*map(decide, range(10))) == ["dev"] * 10

    def work() -> None:
        with Interruption(ask) as interruption:
            asyncio.run(main())
        assert interruption.lines > 100

    ends(work)


def test_a_finalizer_that_waits_for_another_thread_keeps_that_thread_from_nothing() -> None:
    cache: Cache[int, int] = Cache(10)
    turn = 0

    def ask() -> None:
        # Another thread computes this, and can only end if nothing is held here.
        nonlocal turn
        turn += 1
        key, begun, release = turn, threading.Event(), threading.Event()

        def compute() -> int:
            begun.set()
            release.wait(30)
            return key

        leader = threading.Thread(target=cache.get_or_set, args=(key, compute), daemon=True)
        leader.start()
        begun.wait(30)
        releaser = threading.Timer(0.001, release.set)
        releaser.start()
        assert cache.get_or_set(key, lambda: -1) == key
        leader.join()

    flights: Cache[str, str] = Cache(10)

    def work() -> None:
        with Interruption(ask):
            assert flights.get_or_set("outer", lambda: flights.get_or_set("inner", lambda: "value")) == "value"

    ends(work)


def lead(flights: _singleflight.Flights, compute: Callable[[], str]) -> object:
    return flights.run("key", lambda: _singleflight.ABSENT, compute, lambda value: None)


def lead_as_coroutine(flights: _singleflight.Flights, compute: Callable[[], str]) -> object:
    async def compute_later() -> str:
        return compute()

    # It never suspends, so it needs no loop.
    running = flights.run_async("key", lambda: _singleflight.ABSENT, compute_later, lambda value: None)
    try:
        running.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")


def is_led_while_others_wait(
    flights: _singleflight.Flights, leading: Callable[[Callable[[], None]], None], prepare: Callable[[Any], None]
) -> None:
    """Calls ``leading`` in this thread, with a function that returns once others wait for its flight.

    The others are two threads and two tasks. All of them have to end. ``prepare`` gets the loop of the tasks.
    """

    async def compute_again() -> str:
        return "again"

    async def wait_in_tasks() -> None:
        prepare(asyncio.get_running_loop())
        each = (
            flights.run_async("key", lambda: _singleflight.ABSENT, compute_again, lambda value: None) for _ in range(2)
        )
        await asyncio.gather(*each, return_exceptions=True)

    def wait_in_thread() -> None:
        try:
            flights.run("key", lambda: _singleflight.ABSENT, lambda: "again", lambda value: None)
        except LookupError:
            pass

    works = [wait_in_thread, wait_in_thread, lambda: asyncio.run(wait_in_tasks())]
    threads = [threading.Thread(target=work, daemon=True) for work in works]

    def all_wait() -> None:
        flight = flights._by_key["key"]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(flight._threads) == 2 and len(flight._tasks) == 2)

    leading(all_wait)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "it was never woken"


LEADERS = pytest.mark.parametrize("lead", [lead, lead_as_coroutine], ids=["thread", "coroutine"])


@LEADERS
def test_an_interrupt_while_a_loop_is_told_keeps_nobody_asleep(lead: Callable[..., object]) -> None:
    flights, calls = _singleflight.Flights(), []

    def prepare(loop: Any) -> None:
        tell = loop.call_soon_threadsafe

        def interrupted(*arguments: Any) -> object:
            calls.append(arguments)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return tell(*arguments)

        loop.call_soon_threadsafe = interrupted

    def leading(all_wait: Callable[[], None]) -> None:
        with pytest.raises(KeyboardInterrupt):
            lead(flights, lambda: all_wait() or "value")

    is_led_while_others_wait(flights, leading, prepare)
    assert len(calls) >= 3


@LEADERS
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_an_interrupt_at_any_line_that_ends_a_flight_keeps_nobody_asleep(
    lead: Callable[..., object], fails: bool
) -> None:
    for at in count():
        flights, seen, waited = _singleflight.Flights(), 0, False

        def interrupt(at: int = at) -> None:
            nonlocal seen
            # The function of the interrupted line, past this function and the trace function.
            if waited and sys._getframe(2).f_code.co_name in {"_give_up", "_end", "land", "wake"}:
                seen += 1
                if seen > at:
                    raise KeyboardInterrupt

        def leading(all_wait: Callable[[], None], flights: Any = flights, interrupt: Any = interrupt) -> None:
            def compute() -> str:
                nonlocal waited
                all_wait()
                waited = True
                if fails:
                    raise LookupError("key")
                return "value"

            try:
                with Interruption(interrupt):
                    lead(flights, compute)
            except (KeyboardInterrupt, LookupError):
                pass

        is_led_while_others_wait(flights, leading, lambda loop: None)
        if seen <= at:
            # There is no such line any more.
            break
    assert at > 10


def test_an_exception_is_as_long_for_the_last_coroutine_as_for_the_first() -> None:
    @cached(10)
    async def fail(key: str) -> None:
        await asyncio.sleep(0)
        raise LookupError(key)

    async def logged() -> int:
        try:
            await fail("key")
        except LookupError:
            return len(traceback.format_exc())
        return 0

    async def main() -> list[int]:
        return await asyncio.gather(*(logged() for _ in range(200)))

    lengths = asyncio.run(main())
    assert 0 < max(lengths) < 3 * min(lengths)


def test_an_exception_is_as_long_for_the_last_thread_as_for_the_first() -> None:
    flights, release, lengths = _singleflight.Flights(), threading.Event(), []

    def fail() -> None:
        release.wait(30)
        raise LookupError("key")

    def logged() -> None:
        try:
            flights.run("key", lambda: _singleflight.ABSENT, fail, lambda value: None)
        except LookupError as error:
            lengths.append(len("".join(traceback.format_exception(error))))

    threads = [threading.Thread(target=logged) for _ in range(100)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(lengths) == 100
    # Threads that raise it at the same moment may see a few of each other's lines.
    assert max(lengths) < 10 * min(lengths)


class Value:
    """Something to hold a weak reference to."""


def test_a_context_that_was_copied_inside_a_computation_does_not_keep_its_value() -> None:
    async def main() -> None:
        tasks, values = [], weakref.WeakSet[Value]()

        @cached(1)
        async def client(number: int) -> Value:
            tasks.append(asyncio.create_task(asyncio.sleep(3600)))
            values.add(value := Value())
            return value

        for number in range(10):
            await client(number)
        gc.collect()
        assert len(values) == 1
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_a_chain_of_computations_that_start_the_next_one_does_not_grow() -> None:
    longest = 0

    async def main() -> None:
        done = asyncio.Event()

        @cached(10)
        async def page(number: int) -> int:
            nonlocal longest
            longest = max(longest, len(_singleflight._coroutines.get()))
            if number < 1000:
                asyncio.create_task(page(number + 1))  # noqa: RUF006
            else:
                done.set()
            await asyncio.sleep(0)
            return number

        await page(0)
        await done.wait()

    asyncio.run(main())
    assert longest < 10


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collects what is raised where it can't be caught."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: told.append((it.exc_type, str(it.exc_value))))
    yield told


def test_a_coroutine_may_be_destroyed_in_another_context(unraisable: list[Any]) -> None:
    class Suspension:
        def __await__(self) -> Iterator[None]:
            yield

    @cached(10)
    async def slow(key: str) -> str:
        await Suspension()
        return key

    waiting = slow("key")
    contextvars.copy_context().run(waiting.send, None)  # type: ignore[attr-defined]
    del waiting
    gc.collect()
    assert unraisable == []
    assert asyncio.run(asyncio.wait_for(slow("key"), 30)) == "key"


def test_a_call_that_failed_leaves_no_cycle() -> None:
    values: list[weakref.ref[Value]] = []

    def fail(key: str) -> None:
        value = Value()
        values.append(weakref.ref(value))
        raise LookupError(key)

    async def fail_later(key: str) -> None:
        value = Value()
        values.append(weakref.ref(value))
        await asyncio.sleep(0)
        raise LookupError(key)

    def called() -> None:
        with pytest.raises(LookupError):
            function("key")

    async def gathered() -> None:
        for result in await asyncio.gather(*(coroutine_function("key") for _ in range(3)), return_exceptions=True):
            assert isinstance(result, LookupError)

    function, coroutine_function = cached(10)(fail), cached(10)(fail_later)
    gc.collect()
    gc.disable()
    try:
        called()
        assert values.pop()() is None
        asyncio.run(gathered())
        assert values.pop()() is None
    finally:
        gc.enable()


def test_a_thread_started_by_a_coroutine_does_not_wait_for_what_it_is_part_of() -> None:
    # The computations of threads and those of coroutines know of each other.
    cache: Cache[str, str] = Cache(10)
    calls: list[str] = []

    def in_thread() -> str:
        return cache.get_or_set("key", lambda: "inner")

    @cached(10)
    async def fetch(key: str) -> str:
        return await asyncio.to_thread(in_thread)

    def outer() -> str:
        calls.append("outer")
        return asyncio.run(fetch("key")) if len(calls) == 1 else "again"

    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(cache.get_or_set("key", outer)), daemon=True)
    thread.start()
    wait_until(lambda: bool(got))
    assert got == ["inner"]


def test_a_value_that_is_about_to_be_cleared_is_not_passed_on_to_callers_that_wait() -> None:
    # Clearing forgets the flights, then empties the cache. A flight may begin in between.
    flights = _singleflight.Flights()
    looking, cleared = threading.Event(), threading.Event()
    results: list[str] = []

    def look() -> str:
        looking.set()
        assert cleared.wait(60)
        return "old"

    def first() -> None:
        results.append(flights.run("key", look, lambda: pytest.fail("it is there"), results.append))

    def second() -> None:
        results.append(flights.run("key", lambda: _singleflight.ABSENT, lambda: "new", lambda value: None))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert looking.wait(60)
    threads[1].start()
    wait_until(lambda: bool(flights._by_key["key"]._threads))
    cleared.set()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["new", "old"]


def test_a_coroutine_that_waits_for_a_value_that_is_there_looks_for_it_itself() -> None:
    flights = _singleflight.Flights()
    looking, cleared = threading.Event(), threading.Event()

    def look() -> str:
        looking.set()
        assert cleared.wait(60)
        return "old"

    async def new() -> str:
        return "new"

    async def later() -> str:
        value: str = await flights.run_async("key", lambda: _singleflight.ABSENT, new, lambda value: None)
        return value

    thread = threading.Thread(target=lambda: flights.run("key", look, lambda: None, lambda value: None))
    thread.start()
    assert looking.wait(60)
    flight = flights._by_key["key"]
    threading.Thread(target=lambda: (wait_until(lambda: bool(flight._tasks)), cleared.set())).start()
    assert asyncio.run(later()) == "new"
    thread.join(60)
