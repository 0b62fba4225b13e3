"""`get_or_evaluate`: never more evaluations than needed, and never one that callers can't rely on to end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Clock
from policy.conftest import run
from sark_cache.policy import PythonPolicyCache, RustPolicyCache
from sark_cache.policy.flights import EvaluationCancelled
from sark_cache.policy.python_engine import PythonCache

REQUEST = ("alice", "read", "doc:1")


class Engine:
    """A policy engine that counts its calls, and answers when it is told to."""

    def __init__(self, answer: Any = None, *, at_once: bool = False) -> None:
        self.answer = {"allow": True, "list": []} if answer is None else answer
        self.calls = 0
        self.called = asyncio.Event()
        self.go_on = asyncio.Event()
        if at_once:
            self.go_on.set()

    async def __call__(self) -> Any:
        self.calls += 1
        self.called.set()
        await self.go_on.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def until_waiting(cache: Any, callers: int) -> None:
    """Waits until ``callers`` callers wait for the one evaluation that is under way."""
    while True:
        flights = list(cache._flights._by_loop[asyncio.get_running_loop()].values()) if cache._flights else []
        if sum(flight.waiters for flight in flights) == callers:
            return
        await asyncio.sleep(0)


def test_those_who_ask_at_once_share_one_evaluation_and_get_a_copy_each(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine()
        asked = [asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine)) for _ in range(5)]
        await until_waiting(cache, 5)
        engine.go_on.set()
        decisions = await asyncio.gather(*asked)
        assert decisions == [engine.answer] * 5
        decisions[0]["list"].append("mine")
        assert decisions[1] == engine.answer == {"allow": True, "list": []}
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == engine.answer
        assert engine.calls == 1

    run(scenario())


def test_a_decision_is_stored_for_the_question_that_was_asked_although_the_context_changes_meanwhile(
    cache: Any,
) -> None:
    async def scenario() -> None:
        context: dict[str, Any] = {"roles": ["admin"]}

        async def evaluate() -> dict[str, Any]:
            allow = "admin" in context["roles"]
            context["roles"].clear()
            return {"allow": allow}

        assert await cache.get_or_evaluate(*REQUEST, context, evaluate=evaluate) == {"allow": True}
        assert await cache.get(*REQUEST, {"roles": []}) is None
        assert await cache.get(*REQUEST, {"roles": ["admin"]}) == {"allow": True}

    run(scenario())


def test_a_plain_function_may_evaluate_too(cache: Any) -> None:
    async def scenario() -> None:
        assert await cache.get_or_evaluate(*REQUEST, evaluate=lambda: {"allow": False}) == {"allow": False}
        assert await cache.get(*REQUEST) == {"allow": False}

    run(scenario())


def test_a_failed_evaluation_reaches_everybody_and_is_not_cached(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine(LookupError("the policy engine is down"))
        asked = [asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine)) for _ in range(3)]
        await until_waiting(cache, 3)
        engine.go_on.set()
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(outcome, LookupError)
        assert engine.calls == 1
        assert await cache.get(*REQUEST) is None
        engine.answer = {"allow": True}
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == {"allow": True}

    run(scenario())


def test_cancelling_the_one_who_began_does_not_cancel_the_rest(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine()
        leader = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine))
        await engine.called.wait()
        follower = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine))
        await until_waiting(cache, 2)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        engine.go_on.set()
        assert await follower == engine.answer
        assert engine.calls == 1
        assert await cache.get(*REQUEST) == engine.answer

    run(scenario())


def test_an_evaluation_nobody_waits_for_is_cancelled_and_not_cached(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine()
        asked = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine))
        await engine.called.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        engine.go_on.set()
        assert await cache.get(*REQUEST) is None
        # Nor can it be joined while it ends.
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == engine.answer
        assert engine.calls == 2

    run(scenario())


def test_an_evaluation_that_is_cancelled_from_inside_is_an_error_for_those_who_wait(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine(asyncio.CancelledError(), at_once=True)
        with pytest.raises(EvaluationCancelled):
            await cache.get_or_evaluate(*REQUEST, evaluate=engine)
        assert await cache.get(*REQUEST) is None

    run(scenario())


def test_none_is_no_decision_and_not_cached(cache: Any) -> None:
    async def scenario() -> None:
        calls = 0

        async def undecided() -> None:
            nonlocal calls
            calls += 1

        assert await cache.get_or_evaluate(*REQUEST, evaluate=undecided) is None
        assert await cache.get_or_evaluate(*REQUEST, evaluate=undecided) is None
        assert calls == 2

    run(scenario())


def test_a_decision_that_is_not_json_is_given_but_not_cached(cache: Any) -> None:
    async def scenario() -> None:
        decision = {"allow": True, "roles": {"a", "b"}}
        engine = Engine(decision, at_once=True)
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == decision
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == decision
        assert engine.calls == 2

    run(scenario())


def test_a_denial_because_something_was_down_is_given_but_not_cached(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(cacheable=lambda decision: decision.get("reason") != "down")

    async def scenario() -> None:
        down, up = Engine({"allow": False, "reason": "down"}, at_once=True), Engine({"allow": True}, at_once=True)
        assert await cache.get_or_evaluate(*REQUEST, evaluate=down) == down.answer
        assert await cache.get_or_evaluate(*REQUEST, evaluate=up) == up.answer
        assert await cache.get_or_evaluate(*REQUEST, evaluate=down) == up.answer

    run(scenario())


def test_times_of_levels_and_verdicts_hold_for_evaluated_decisions(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(optimized_ttl={"critical": 0}, deny_ttl_seconds=0)

    async def scenario() -> None:
        engine = Engine({"allow": True}, at_once=True)
        for _ in range(2):
            assert await cache.get_or_evaluate(*REQUEST, sensitivity="critical", evaluate=engine) == {"allow": True}
        assert engine.calls == 2
        await cache.get_or_evaluate(*REQUEST, evaluate=engine)
        assert await cache.get(*REQUEST) == {"allow": True}
        # It is decided anew for the strict level, and the older decision is gone.
        await cache.get_or_evaluate(*REQUEST, sensitivity="critical", evaluate=engine)
        assert await cache.get(*REQUEST) is None
        engine.answer = {"allow": False}
        await cache.get_or_evaluate(*REQUEST, evaluate=engine)
        assert await cache.get(*REQUEST) is None

    run(scenario())


def test_decisions_of_a_level_that_is_never_stored_are_not_shared_either(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(optimized_ttl={"critical": 0})

    async def scenario() -> None:
        engine = Engine()
        asked = [
            asyncio.create_task(cache.get_or_evaluate(*REQUEST, None, "critical", evaluate=engine)) for _ in range(3)
        ]
        while engine.calls < 3:
            await asyncio.sleep(0)
        engine.go_on.set()
        await asyncio.gather(*asked)

    run(scenario())


@pytest.mark.parametrize("how", ["bypass", "disabled", "uncacheable"])
def test_going_round_the_cache_evaluates_and_leaves_the_cache_as_it_is(cache: Any, how: str) -> None:
    async def scenario() -> None:
        await cache.set(*REQUEST, {"allow": True})
        engine = Engine({"allow": False}, at_once=True)
        cache.enabled = how != "disabled"
        context = {"when": object()} if how == "uncacheable" else None
        for _ in range(2):
            decision = await cache.get_or_evaluate(*REQUEST, context, evaluate=engine, bypass=how == "bypass")
            assert decision == {"allow": False}
        assert engine.calls == 2
        cache.enabled = True
        assert await cache.get(*REQUEST) == {"allow": True}

    run(scenario())


def test_an_evaluation_that_asks_for_itself_evaluates_instead_of_hanging(cache: Any) -> None:
    async def scenario() -> None:
        async def inner() -> dict[str, Any]:
            return {"allow": True, "depth": 2}

        async def outer() -> Any:
            return await cache.get_or_evaluate(*REQUEST, evaluate=inner)

        assert await cache.get_or_evaluate(*REQUEST, evaluate=outer) == {"allow": True, "depth": 2}

    run(scenario())


def test_evaluations_that_wait_for_each_other_in_a_circle_do_not_hang(cache: Any) -> None:
    async def scenario() -> None:
        both = asyncio.Event()
        started: list[str] = []

        async def evaluate(mine: str, other: str) -> dict[str, Any]:
            started.append(mine)
            if len(started) == 2:
                both.set()
            await both.wait()
            await cache.get_or_evaluate("u", "a", other, evaluate=lambda: {"allow": True})
            return {"allow": True, "mine": mine}

        one, two = await asyncio.gather(
            cache.get_or_evaluate("u", "a", "1", evaluate=lambda: evaluate("1", "2")),
            cache.get_or_evaluate("u", "a", "2", evaluate=lambda: evaluate("2", "1")),
        )
        assert (one["mine"], two["mine"]) == ("1", "2")

    run(scenario())


def test_an_evaluation_sees_the_context_variables_of_the_one_who_began_it(cache: Any) -> None:
    role: contextvars.ContextVar[str] = contextvars.ContextVar("role")

    async def scenario() -> None:
        role.set("admin")

        async def evaluate() -> dict[str, Any]:
            return {"allow": role.get() == "admin"}

        assert await cache.get_or_evaluate(*REQUEST, evaluate=evaluate) == {"allow": True}

    run(scenario())


def test_loops_in_several_threads_use_one_cache() -> None:
    cache = RustPolicyCache()
    together = threading.Barrier(4)
    seen: list[Any] = []

    def one_loop(number: int) -> None:
        async def scenario() -> None:
            for turn in range(50):
                engine = Engine({"allow": True, "turn": turn}, at_once=True)
                together.wait(20)
                decision = await cache.get_or_evaluate("u", "a", f"r{turn}", evaluate=engine)
                seen.append(decision == {"allow": True, "turn": turn})

        run(scenario())

    threads = [threading.Thread(target=one_loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [True] * 200


class TestRevalidation:
    """Near its end a decision is served, and re-evaluated in the background, once, for the same time as before."""

    @staticmethod
    def aged(**options: Any) -> tuple[Any, Clock]:
        clock = Clock()
        cache = PythonPolicyCache(stale_while_revalidate=True, **options)
        cache.cache = PythonCache(100, 300, timer=clock)
        return cache, clock

    def test_it_is_started_once_and_keeps_the_time_it_had(self) -> None:
        cache, clock = self.aged()

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": True, "n": 1}, ttl_seconds=100)
            engine = Engine({"allow": True, "n": 2})
            clock.advance(69)
            assert (await cache.get_or_evaluate(*REQUEST, evaluate=engine))["n"] == 1
            assert cache.metrics.stale_hits == engine.calls == 0
            clock.advance(2)
            for _ in range(3):
                assert (await cache.get_or_evaluate(*REQUEST, ttl_seconds=999, evaluate=engine))["n"] == 1
            await engine.called.wait()
            engine.go_on.set()
            while cache.metrics.revalidations == 0:
                await asyncio.sleep(0)
            assert engine.calls == 1
            assert cache.metrics.stale_hits == 3
            explanation = await cache.explain(*REQUEST)
            assert explanation.decision == {"allow": True, "n": 2}
            assert explanation.remaining == 100

        run(scenario())

    def test_nothing_is_served_past_its_time_although_it_is_being_revalidated(self) -> None:
        cache, clock = self.aged()

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": True, "n": 1}, ttl_seconds=100)
            engine = Engine({"allow": True, "n": 2})
            clock.advance(99)
            await cache.get_or_evaluate(*REQUEST, evaluate=engine)
            await engine.called.wait()
            clock.advance(1)
            # A caller that comes now waits for the revalidation, and doesn't get a decision that is past its
            # time.
            asked = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine))
            await asyncio.sleep(0)
            engine.go_on.set()
            assert (await asked)["n"] == 2
            assert engine.calls == 1

        run(scenario())

    @pytest.mark.parametrize("answer", [LookupError("down"), "undecided"])
    def test_one_that_fails_or_does_not_decide_leaves_the_decision_to_its_time(self, answer: Any) -> None:
        cache, clock = self.aged()

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": True}, ttl_seconds=100)

            async def evaluate() -> None:
                done.set()
                if isinstance(answer, Exception):
                    raise answer

            done = asyncio.Event()
            clock.advance(90)
            assert await cache.get_or_evaluate(*REQUEST, evaluate=evaluate) == {"allow": True}
            await done.wait()
            await asyncio.sleep(0)
            assert await cache.get(*REQUEST) == {"allow": True}
            assert cache.metrics.revalidations == 0
            clock.advance(10)
            assert await cache.get(*REQUEST) is None

        run(scenario())

    def test_one_that_began_before_an_invalidation_is_not_stored(self) -> None:
        cache, clock = self.aged()

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": True}, ttl_seconds=100)
            engine = Engine()
            clock.advance(90)
            await cache.get_or_evaluate(*REQUEST, evaluate=engine)
            await engine.called.wait()
            await cache.invalidate("alice")
            engine.go_on.set()
            while cache.metrics.refused == 0:
                await asyncio.sleep(0)
            assert await cache.get(*REQUEST) is None

        run(scenario())

    def test_one_that_turns_the_decision_keeps_the_verdicts_own_limit(self) -> None:
        cache, clock = self.aged(allow_ttl_seconds=5)

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": False}, ttl_seconds=100)
            clock.advance(90)
            await cache.get_or_evaluate(*REQUEST, evaluate=Engine({"allow": True}, at_once=True))
            while cache.metrics.revalidations == 0:
                await asyncio.sleep(0)
            assert (await cache.explain(*REQUEST)).remaining == 5

        run(scenario())

    def test_a_recorded_callback_is_used_only_if_it_was_asked_for(self) -> None:
        cache, clock = self.aged()
        asked: list[Any] = []

        async def callback(*request: Any) -> dict[str, Any]:
            asked.append(request)
            return {"allow": False}

        async def scenario() -> None:
            cache.set_revalidate_callback(callback)
            cache.stale_while_revalidate = False
            await cache.set(*REQUEST, {"allow": True}, ttl_seconds=100)
            clock.advance(90)
            assert await cache.get(*REQUEST) == {"allow": True}
            cache.stale_while_revalidate = True
            assert await cache.get(*REQUEST) == {"allow": True}
            while cache.metrics.revalidations == 0:
                await asyncio.sleep(0)
            assert asked == [(*REQUEST, None)]
            assert await cache.get(*REQUEST) == {"allow": False}

        run(scenario())

    def test_the_native_engine_and_a_server_do_it_too(self, make_cache: Callable[..., Any]) -> None:
        cache = make_cache(stale_while_revalidate=True)
        if getattr(cache, "cache", None) is not None and not cache._engine_tells_ttl():
            pytest.skip("this engine doesn't tell how old an entry is")
        # Everything counts as near its end, so that the test doesn't have to wait for that.
        type(cache).STALE_THRESHOLD_RATIO, before = 1.1, type(cache).STALE_THRESHOLD_RATIO

        async def scenario() -> None:
            await cache.set(*REQUEST, {"allow": True, "n": 1}, ttl_seconds=200)
            engine = Engine({"allow": True, "n": 2}, at_once=True)
            assert (await cache.get_or_evaluate(*REQUEST, evaluate=engine))["n"] == 1
            while cache.metrics.revalidations == 0:
                await asyncio.sleep(0)
            explanation = await cache.explain(*REQUEST)
            assert explanation.decision["n"] == 2 and 190 < explanation.remaining <= 200

        try:
            run(scenario())
        finally:
            type(cache).STALE_THRESHOLD_RATIO = before


def test_closing_cancels_what_is_under_way_and_the_cache_goes_on(cache: Any) -> None:
    async def scenario() -> None:
        engine = Engine()
        asked = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=engine))
        await engine.called.wait()
        await cache.close()
        with pytest.raises(EvaluationCancelled):
            await asked
        engine.go_on.set()
        assert await cache.get_or_evaluate(*REQUEST, evaluate=engine) == engine.answer

    run(scenario())


def test_a_task_that_an_evaluation_starts_does_not_keep_its_decision() -> None:
    class Told(dict[str, Any]):
        """A dict that weak references can refer to."""

    cache = RustPolicyCache()
    told: list[weakref.ref[Told]] = []
    tasks: list[asyncio.Task[None]] = []

    async def evaluate() -> Told:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        decision = Told(allow=True)
        told.append(weakref.ref(decision))
        return decision

    async def scenario() -> None:
        assert await cache.get_or_evaluate(*REQUEST, evaluate=evaluate) == {"allow": True}
        await asyncio.sleep(0)
        gc.collect()
        assert told[0]() is None
        tasks[0].cancel()

    run(scenario())
