"""`@cached`: what counts as one call, which callers compute and which wait, and what it preserves of a function."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import os
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from conftest import wait_until

from sark_cache import Cache, CacheInfo, cached


@cached(100)
def documented(number: int, *, factor: int = 2) -> int:
    """Multiplies."""
    return number * factor


def counting(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[Any]]:
    calls: list[Any] = []

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    return counted, calls


class TestKeys:
    def test_equal_arguments_are_one_call(self) -> None:
        function, calls = counting(lambda *args, **kwargs: (args, kwargs))
        function = cached(100)(function)
        for argument in (1, 1.0, True, "text", b"bytes", None, (1, 2), frozenset({1}), 1.5):
            assert function(argument) is function(argument)
        assert len(calls) == 7

    def test_arguments_by_name_in_any_order_are_one_call(self) -> None:
        function, calls = counting(lambda **kwargs: kwargs)
        function = cached(100)(function)
        assert function(a=1, b=2) is function(b=2, a=1)
        assert len(calls) == 1

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((("a", "b"),), ("a", "b")),
            (((),), ()),
            ((("a",),), ("a",)),
            ((1, 2), (2, 1)),
            (("x", 1), (("x", 1),)),
        ],
    )
    def test_different_arguments_are_different_calls(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
        function = cached(100)(lambda *args: args)
        assert (function(*one), function(*other)) == (one, other)

    def test_an_argument_by_name_is_not_one_by_position(self) -> None:
        function = cached(100)(lambda *args, **kwargs: (args, kwargs))
        assert function("a", 1) == (("a", 1), {})
        assert function(a=1) == ((), {"a": 1})
        assert function("a", b=1) == (("a",), {"b": 1})
        assert function("a", "b", 1) == (("a", "b", 1), {})

    def test_typed_tells_numbers_apart(self) -> None:
        function = cached(100, typed=True)(lambda *args, **kwargs: (args, kwargs))
        assert [type(function(one)[0][0]) for one in (1, 1.0, True)] == [int, float, bool]
        assert [type(function(x=one)[1]["x"]) for one in (1, 1.0, True)] == [int, float, bool]

    def test_a_key_of_the_callers_own_decides(self) -> None:
        function, calls = counting(lambda text, times=1: text * times)
        function = cached(100, key=lambda text, times=1: (text.lower(), times))(function)
        assert function("Aa") == function("aA") == "Aa"
        assert function.cache_key("Aa", times=3) == ("aa", 3)
        assert len(calls) == 1

    def test_functions_that_share_a_cache_find_only_their_own_results(self) -> None:
        cache: Cache[Any, Any] = Cache(100)
        functions = [cached(cache)(lambda number, offset=offset: number + offset) for offset in range(5)]
        for _ in range(2):
            assert [function(1) for function in functions] == [1, 2, 3, 4, 5]
        assert len(cache) == 5
        assert functions[0].cache is cache
        assert functions[0].cache_key(1) in cache

    def test_an_unhashable_argument_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            cached(10)(lambda argument: argument)([])

    def test_the_key_tells_where_the_result_is(self) -> None:
        function = cached(100)(lambda *args, **kwargs: "result")
        function(1, 2, a=3)
        assert function.cache[function.cache_key(1, 2, a=3)] == "result"


class TestLifetime:
    def test_results_are_kept_for_their_time(self) -> None:
        now = [0.0]
        cache: Cache[Any, Any] = Cache(10, timer=lambda: now[0])
        function, calls = counting(lambda number: number)
        function = cached(cache, ttl=10)(function)
        function(1)
        now[0] = 9.9
        function(1)
        assert len(calls) == 1
        now[0] = 10.0
        function(1)
        assert len(calls) == 2

    def test_a_value_larger_than_the_cache_is_returned_and_not_kept(self) -> None:
        cache: Cache[Any, str] = Cache(10, getsizeof=len)
        function, calls = counting(lambda size: "x" * size)
        function = cached(cache)(function)
        assert function(20) == function(20) == "x" * 20
        assert (len(calls), len(cache)) == (2, 0)

    def test_clearing_forgets_what_is_being_computed(self) -> None:
        function: Any

        def compute(number: int) -> int:
            function.cache_clear()
            return number

        function = cached(10)(compute)
        assert function(1) == 1
        assert len(function.cache) == 0

    def test_info_is_that_of_functools(self) -> None:
        function = cached(10)(lambda number: number)
        function(1), function(1), function(2)
        info = function.cache_info()
        assert info == CacheInfo(1, 2, 10, 2) == (1, 2, 10, 2)
        assert (info.hits, info.misses, info.maxsize, info.currsize) == (1, 2, 10, 2)
        assert repr(info) == "CacheInfo(hits=1, misses=2, maxsize=10, currsize=2)"
        assert pickle.loads(pickle.dumps(info)) == info


class TestFunctions:
    def test_it_looks_like_the_function(self) -> None:
        assert documented.__name__ == "documented"
        assert documented.__doc__ == "Multiplies."
        assert inspect.signature(documented) == inspect.signature(documented.__wrapped__)
        assert documented(3, factor=4) == documented.__call__(3, factor=4) == 12
        assert documented.__call__(5) == documented(5) == 10

    def test_it_is_pickled_and_copied_as_functions_are(self) -> None:
        assert pickle.loads(pickle.dumps(documented)) is documented
        assert copy.copy(documented) is copy.deepcopy(documented) is documented

    def test_methods_keep_their_instances_apart(self) -> None:
        class Shop:
            def __init__(self, name: str) -> None:
                self.name = name
                self.calls = 0

            @cached(100)
            def price(self, item: str) -> str:
                self.calls += 1
                return self.name + item

            @classmethod
            @cached(100)
            def kind(cls, item: str) -> str:
                return cls.__name__ + item

            @staticmethod
            @cached(100)
            def tax(item: str) -> str:
                return "tax" + item

        one, other = Shop("one"), Shop("other")
        for _ in range(3):
            assert (one.price("!"), other.price("!")) == ("one!", "other!")
            bound = one.price
            assert bound("!") == "one!"
            assert (Shop.kind("!"), one.kind("!"), Shop.tax("!"), one.tax("!")) == ("Shop!", "Shop!", "tax!", "tax!")
        assert other.calls == 1

    @pytest.mark.parametrize("wrong", ["100", None, 1.5, lambda: None])
    def test_what_is_no_cache_and_no_size_is_a_type_error(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match="maxsize"):
            cached(wrong)

    def test_wrong_settings_are_errors_at_once(self) -> None:
        with pytest.raises(ValueError, match="maxsize"):
            cached(0)
        with pytest.raises(ValueError, match="ttl"):
            cached(Cache(10), ttl=-1)
        with pytest.raises(TypeError, match="key"):
            cached(10, key="name")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="above"):
            cached(10)(staticmethod(lambda: None))  # type: ignore[arg-type]

    def test_a_decorated_function_in_a_cycle_is_collected(self) -> None:
        def build() -> weakref.ref[Any]:
            @cached(10)
            def function(argument: Any) -> Any:
                return [function]

            function("a")
            return weakref.ref(function)

        dead = build()
        gc.collect()
        assert dead() is None


class TestSingleFlight:
    def test_one_of_several_threads_computes_and_all_get_its_result(self) -> None:
        started, release = threading.Event(), threading.Event()
        calls = []

        @cached(10)
        def compute(key: str) -> object:
            calls.append(key)
            started.set()
            assert release.wait(30)
            return object()

        results: list[object] = []
        threads = [threading.Thread(target=lambda: results.append(compute("key"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert started.wait(30)
        wait_until(lambda: compute.cache_info().misses >= 8)
        release.set()
        for thread in threads:
            thread.join(30)
        assert (len(results), len(set(map(id, results))), calls) == (8, 1, ["key"])

    def test_an_exception_reaches_all_and_is_not_kept(self) -> None:
        release = threading.Event()
        calls = []

        @cached(10)
        def fail(key: str) -> None:
            calls.append(key)
            assert release.wait(30)
            raise LookupError(key)

        errors: list[str] = []

        def call() -> None:
            try:
                fail("key")
            except LookupError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: fail.cache_info().misses >= 4)
        release.set()
        for thread in threads:
            thread.join(30)
        assert (errors, calls) == (["key"] * 4, ["key"])
        call()
        assert calls == ["key"] * 2

    def test_a_function_that_needs_its_own_result_is_called_again(self) -> None:
        depth: list[int] = []

        @cached(10)
        def compute(key: str) -> int:
            depth.append(1)
            return compute(key) if len(depth) < 3 else 7

        assert compute("key") == 7
        assert len(depth) == 3

    def test_two_threads_that_need_each_other_compute_for_themselves(self) -> None:
        both = threading.Barrier(2, timeout=30)
        local = threading.local()
        results = {}

        @cached(10)
        def compute(key: str) -> str:
            if hasattr(local, "inside"):
                return key
            local.inside = True
            both.wait()
            return key + compute("b" if key == "a" else "a")

        def call(key: str) -> None:
            results[key] = compute(key)

        threads = [threading.Thread(target=call, args=(key,), daemon=True) for key in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "they wait for each other"
        assert sorted(results) == ["a", "b"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_child_does_not_wait_for_a_thread_of_its_parent(self) -> None:
        started, release = threading.Event(), threading.Event()

        @cached(10)
        def compute(key: str) -> str:
            if threading.current_thread() is not threading.main_thread():
                started.set()
                assert release.wait(30)
            return key

        thread = threading.Thread(target=compute, args=("key",))
        thread.start()
        assert started.wait(30)
        child = os.fork()
        if child == 0:
            os._exit(0 if compute("key") == "key" else 1)
        try:
            ended: list[int] = []

            def has_ended() -> bool:
                pid, status = os.waitpid(child, os.WNOHANG)
                ended.extend([status] if pid else [])
                return bool(pid)

            wait_until(has_ended)
            assert ended == [0]
        finally:
            release.set()
            thread.join(30)


def test_an_object_that_answers_to_any_name_can_be_decorated() -> None:
    function = Mock(return_value="value")
    decorated = cached(10)(function)
    assert decorated("key") == decorated("key") == "value"
    function.assert_called_once_with("key")


def test_a_generator_function_is_refused_since_its_result_can_be_used_only_once() -> None:
    def numbers(end: int) -> Iterator[int]:
        yield from range(end)

    async def numbers_later(end: int) -> AsyncIterator[int]:
        yield end

    class Numbers:
        def __call__(self, end: int) -> Iterator[int]:
            yield end

    for function in (numbers, numbers_later, functools.partial(numbers, 3), Numbers()):
        with pytest.raises(TypeError, match="a generator can be used only once"):
            cached(10)(function)


def test_a_key_that_raised_when_a_computation_ended_gets_another_one() -> None:
    class Fickle:
        broken = False

        def __hash__(self) -> int:
            if self.broken:
                raise LookupError("no")
            return 1

    key = Fickle()
    breaks = [True, False]

    @cached(10)
    def measure(key: Fickle) -> str:
        key.broken = breaks.pop(0)
        return "value"

    with pytest.raises(LookupError, match="no"):
        measure(key)
    key.broken = False
    assert measure(key) == "value"


class TestCoroutines:
    def test_it_is_a_coroutine_function(self) -> None:
        @cached(10)
        async def fetch(key: str) -> str:
            """Fetches."""
            return key

        assert inspect.iscoroutinefunction(fetch)
        assert fetch.__doc__ == "Fetches."

        async def main() -> None:
            assert await asyncio.create_task(fetch("key")) == await fetch("key") == "key"  # type: ignore[arg-type]
            assert fetch.cache_info()[:2] == (1, 1)
            assert fetch.cache["key"] == "key"
            fetch.cache_clear()
            assert len(fetch.cache) == 0

        asyncio.run(main())

    @pytest.mark.parametrize("typed", [False, True])
    def test_arguments_arrive_as_they_were_passed(self, typed: bool) -> None:
        called: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        @cached(100, typed=typed)
        async def collect(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            called.append((args, kwargs))
            return args, kwargs

        # Names that the implementation of a wrapper may use are names like any other.
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((), {}),
            ((None,), {}),
            (("a",), {}),
            ((("a",),), {}),
            (("a", "b"), {}),
            ((), {"first": "a"}),
            (("a",), {"first": "b", "others": "c", "self": "d"}),
        ]

        async def main() -> None:
            for _ in range(2):
                for args, kwargs in calls:
                    assert await collect(*args, **kwargs) == (args, kwargs)

        asyncio.run(main())
        assert called == calls
        assert collect.cache_info()[:2] == (len(calls), len(calls))

    def test_it_is_a_method_of_the_instance_it_is_called_on(self) -> None:
        class Service:
            @cached(10)
            async def doubled(self, number: int) -> tuple[Service, int]:
                return self, 2 * number

        async def main() -> None:
            one, other = Service(), Service()
            assert await one.doubled(1) == await one.doubled(1) == (one, 2)
            assert await other.doubled(1) == (other, 2)
            assert Service.doubled.cache_info()[:2] == (1, 2)

        asyncio.run(main())

    def test_a_mock_of_a_coroutine_function_is_one(self) -> None:
        fetch = cached(10)(AsyncMock(return_value="value"))

        async def main() -> None:
            assert await fetch("key") == await fetch("key") == "value"

        asyncio.run(main())
        assert fetch.cache_info()[:2] == (1, 1)

    def test_a_call_that_the_function_refuses_is_refused_in_its_words(self) -> None:
        @cached(10)
        async def fetch(key: str) -> str:
            return key

        with pytest.raises(TypeError, match=r"fetch\(\) missing 1 required positional argument: 'key'"):
            asyncio.run(fetch())  # type: ignore[call-arg, arg-type]
        with pytest.raises(TypeError, match=r"fetch\(\) takes 1 positional argument but 2 were given"):
            asyncio.run(fetch("a", "b"))  # type: ignore[call-arg, arg-type]
        assert len(fetch.cache) == 0

    def test_cancelling_the_leader_does_not_cancel_the_rest(self) -> None:
        calls = []

        async def main() -> None:
            entered, release = asyncio.Event(), asyncio.Event()

            @cached(10)
            async def fetch(key: str) -> str:
                calls.append(key)
                entered.set()
                await release.wait()
                return key

            leader, *others = [asyncio.ensure_future(fetch("key")) for _ in range(4)]
            await entered.wait()
            leader.cancel()
            release.set()
            assert await asyncio.gather(*others) == ["key"] * 3
            with pytest.raises(asyncio.CancelledError):
                await leader

        asyncio.run(asyncio.wait_for(main(), 30))
        assert calls == ["key", "key"]

    def test_cancelling_one_that_waits_disturbs_nobody(self) -> None:
        async def main() -> None:
            release = asyncio.Event()

            @cached(10)
            async def fetch(key: str) -> str:
                await release.wait()
                return key

            leader, waiting, other = [asyncio.ensure_future(fetch("key")) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            release.set()
            assert await asyncio.gather(leader, other) == ["key"] * 2

        asyncio.run(asyncio.wait_for(main(), 30))

    def test_an_exception_reaches_all_and_is_not_kept(self) -> None:
        calls = []

        @cached(10)
        async def fail(key: str) -> None:
            calls.append(key)
            await asyncio.sleep(0)
            raise LookupError(key)

        async def main() -> None:
            results = await asyncio.gather(*(fail("key") for _ in range(4)), return_exceptions=True)
            assert [type(result) for result in results] == [LookupError] * 4
            assert calls == ["key"]
            with pytest.raises(LookupError):
                await fail("key")
            assert calls == ["key"] * 2

        asyncio.run(main())

    def test_tasks_that_need_each_other_compute_for_themselves(self) -> None:
        calls: list[str] = []

        async def main() -> None:
            both = asyncio.Event()

            @cached(10)
            async def fetch(key: str) -> str:
                calls.append(key)
                if len(calls) == 2:
                    both.set()
                await both.wait()
                return key if len(calls) > 4 else key + await fetch("b" if key == "a" else "a")

            await asyncio.gather(fetch("a"), fetch("b"))

        asyncio.run(asyncio.wait_for(main(), 30))
        assert len(calls) >= 3

    def test_a_task_started_inside_does_not_wait_for_the_one_that_awaits_it(self) -> None:
        calls: list[str] = []

        @cached(10)
        async def fetch(key: str) -> str:
            calls.append(key)
            return (await asyncio.gather(fetch(key)))[0] if len(calls) == 1 else "inner"

        assert asyncio.run(asyncio.wait_for(fetch("key"), 30)) == "inner"
