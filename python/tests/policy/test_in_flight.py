"""Evaluations that are under way while something is invalidated: their decisions must not be served afterwards.

The evaluation is held open. It reads the role, waits, and answers by the role that it read. Meanwhile the
role changes, and the application invalidates.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from policy.conftest import run
from sark_cache.policy import PythonPolicyCache, RustPolicyCache
from sark_cache.policy import generations as room
from sark_cache.policy.generations import Generations

REQUEST = ("alice", "read", "doc:1")

Invalidate = Callable[[Any], Awaitable[Any]]


async def by_revision(cache: Any) -> None:
    cache.policy_revision = "r2"


async def by_uncacheable_delete(cache: Any) -> None:
    await cache.delete(object(), "read", "doc:1")


INVALIDATIONS: dict[str, Invalidate] = {
    "user": lambda cache: cache.invalidate("alice"),
    "user and action": lambda cache: cache.invalidate("alice", "read"),
    "user, action and resource": lambda cache: cache.invalidate("alice", "read", "doc:1"),
    "another's pattern": lambda cache: cache.invalidate_pattern("policy:decision:bob:*"),
    "resource alone": lambda cache: cache.invalidate(resource="doc:1"),
    "an id that isn't text": lambda cache: cache.invalidate(7),
    "everything": lambda cache: cache.invalidate(),
    "clear": lambda cache: cache.clear(),
    "clear_all": lambda cache: cache.clear_all(),
    "delete": lambda cache: cache.delete(*REQUEST),
    "revision": by_revision,
    "delete of what has no key": by_uncacheable_delete,
}
covering = pytest.mark.parametrize("invalidate", INVALIDATIONS.values(), ids=INVALIDATIONS)


class Directory:
    """A record of who is an admin, with a policy engine that slowly answers from it."""

    def __init__(self) -> None:
        self.admins = {"alice"}
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.evaluations = 0

    async def evaluate(self) -> dict[str, Any]:
        self.evaluations += 1
        allow = "alice" in self.admins
        self.reading.set()
        await self.go_on.wait()
        return {"allow": allow}


@covering
def test_what_was_evaluated_before_an_invalidation_is_not_stored_after_it(cache: Any, invalidate: Invalidate) -> None:
    async def scenario() -> None:
        directory = Directory()
        asked = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=directory.evaluate))
        await directory.reading.wait()
        directory.admins.clear()
        await invalidate(cache)
        directory.go_on.set()
        # A caller that asked before the change may get the old answer.
        assert await asked == {"allow": True}
        assert await cache.get(*REQUEST) is None
        assert await cache.get_or_evaluate(*REQUEST, evaluate=directory.evaluate) == {"allow": False}
        assert await cache.get(*REQUEST) == {"allow": False}

    run(scenario())


@covering
def test_who_asks_after_an_invalidation_does_not_join_an_evaluation_that_began_before(
    cache: Any, invalidate: Invalidate
) -> None:
    async def scenario() -> None:
        directory = Directory()
        before = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=directory.evaluate))
        await directory.reading.wait()
        directory.admins.clear()
        await invalidate(cache)
        directory.reading.clear()
        after = asyncio.create_task(cache.get_or_evaluate(*REQUEST, evaluate=directory.evaluate))
        await directory.reading.wait()
        directory.go_on.set()
        assert (await before, await after) == ({"allow": True}, {"allow": False})
        assert directory.evaluations == 2
        if not hasattr(cache, "_clients"):
            assert await cache.get(*REQUEST) == {"allow": False}

    run(scenario())


@covering
def test_a_set_with_a_token_of_before_is_refused(cache: Any, invalidate: Invalidate) -> None:
    async def scenario() -> None:
        missed = await cache.lookup(*REQUEST)
        assert missed.decision is None
        await invalidate(cache)
        assert await cache.set(*REQUEST, {"allow": True}, token=missed.token) is False
        assert await cache.get(*REQUEST) is None

    run(scenario())


@covering
def test_a_set_with_a_token_of_after_is_stored_at_once(cache: Any, invalidate: Invalidate) -> None:
    async def scenario() -> None:
        await invalidate(cache)
        missed = await cache.lookup(*REQUEST)
        assert await cache.set(*REQUEST, {"allow": True}, token=missed.token) is True
        assert await cache.get(*REQUEST) == {"allow": True}

    run(scenario())


@covering
def test_a_plain_set_soon_after_an_invalidation_is_refused(cache: Any, invalidate: Invalidate) -> None:
    async def scenario() -> None:
        await cache.set(*REQUEST, {"allow": True})
        await invalidate(cache)
        assert await cache.get(*REQUEST) is None
        assert await cache.set(*REQUEST, {"allow": True}) is False
        assert await cache.set_batch([(*REQUEST, {"allow": True}, None, None)]) == 0
        assert await cache.get(*REQUEST) is None

    run(scenario())
    assert cache.metrics.refused == 2


def test_a_plain_set_is_stored_when_no_evaluation_can_still_be_under_way(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(max_evaluation_seconds=0)

    async def scenario() -> None:
        for invalidate in INVALIDATIONS.values():
            await invalidate(cache)
            assert await cache.set(*REQUEST, {"allow": True}) is True
            assert await cache.get(*REQUEST) == {"allow": True}

    run(scenario())


@pytest.mark.parametrize("kind", [RustPolicyCache, PythonPolicyCache])
def test_a_plain_set_is_refused_for_exactly_the_longest_evaluation(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(room, "monotonic", lambda: now)
    cache = kind(max_evaluation_seconds=10)

    async def scenario() -> None:
        nonlocal now
        await cache.invalidate("alice")
        now += 9.999
        assert await cache.set(*REQUEST, {"allow": True}) is False
        now += 0.001
        assert await cache.set(*REQUEST, {"allow": True}) is True

    run(scenario())


def test_invalidating_one_user_leaves_the_others_alone(cache: Any) -> None:
    async def scenario() -> None:
        await cache.set("alice", "read", "r", {"allow": True})
        await cache.set("bob", "read", "r", {"allow": True})
        missed = await cache.lookup("bob", "write", "r")
        assert await cache.invalidate("alice") == 1
        assert await cache.get("alice", "read", "r") is None
        assert await cache.get("bob", "read", "r") == {"allow": True}
        assert await cache.set("bob", "write", "r", {"allow": True}, token=missed.token) is True
        assert await cache.set("bob", "admin", "r", {"allow": True}) is True

    run(scenario())


def test_deleting_one_decision_leaves_the_others_alone(cache: Any) -> None:
    async def scenario() -> None:
        await cache.set("alice", "read", "r", {"allow": True})
        await cache.set("alice", "write", "r", {"allow": True})
        assert await cache.delete("alice", "read", "r") is True
        assert await cache.delete("alice", "read", "r") is False
        assert await cache.get("alice", "write", "r") == {"allow": True}
        assert await cache.set("alice", "write", "r", {"allow": False}) is True

    run(scenario())


def test_a_token_of_one_user_does_not_let_in_decisions_on_an_invalidated_one(cache: Any) -> None:
    async def scenario() -> None:
        missed = await cache.lookup("bob", "read", "doc:1")
        await cache.invalidate("alice")
        assert await cache.set(*REQUEST, {"allow": True}, token=missed.token) is False

    run(scenario())


@pytest.mark.parametrize("kind", [RustPolicyCache, PythonPolicyCache])
def test_an_engine_that_fails_to_clear_still_has_nothing_to_be_found(kind: Any) -> None:
    cache = kind()

    class Broken(type(cache.cache)):  # type: ignore[misc]
        def clear(self) -> None:
            raise OSError("no")

        def delete(self, key: str) -> bool:
            raise OSError("no")

    cache.cache = Broken(10, 300)

    async def scenario() -> None:
        await cache.set(*REQUEST, {"allow": True})
        assert await cache.clear() is False
        assert await cache.get(*REQUEST) is None

    run(scenario())


@pytest.mark.parametrize("replace", [lambda one: one.replace_user("alice"), lambda one: one.replace_everything()])
def test_whoever_sees_a_new_generation_sees_that_it_is_new(
    replace: Callable[[Generations], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a `set` without a token, in another thread, could mistake an old evaluation for a new one."""
    generations = Generations()
    seen: list[bool] = []

    def a_new_one(size: int) -> bytes:
        seen.append(generations.invalidated_within(10, "alice", "key") and not generations.quiet_for(10))
        return bytes(size)

    monkeypatch.setattr(room, "urandom", a_new_one)
    replace(generations)
    assert seen == [True]


def test_users_beyond_the_bound_cost_everybody_their_decisions_but_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_USERS", 4)
    generations = Generations()
    tokens = {user: generations.token(user) for user in "abcdefgh"}
    for user in "abcdefgh":
        generations.replace_user(user)
        assert len(generations.state[1]) <= 4
    assert all(generations.token(user) != tokens[user] for user in "abcdefgh")


def test_deletions_beyond_the_bound_refuse_more_but_never_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_DELETED", 3)
    generations = Generations()
    taken = [generations.token("u")]
    for number in range(8):
        generations.delete(f"key:{number}")
        taken.append(generations.token("u"))
    for number in range(8):
        for token in taken[: number + 1]:
            assert not generations.admits(token, generations.state, "u", f"key:{number}")
        assert generations.admits(taken[-1], generations.state, "u", f"key:{number}")
    # It is no longer known whether this key was among those that were forgotten.
    assert not generations.admits(taken[0], generations.state, "u", "another key")
    assert generations.admits(taken[5], generations.state, "u", "another key")


def test_a_deletion_that_comes_while_another_thread_stores_is_not_undone() -> None:
    cache = RustPolicyCache()
    storing, deleted = threading.Event(), threading.Event()

    class Slow(type(cache.cache)):  # type: ignore[misc]
        def set(self, key: str, value: str, ttl: float | None = None) -> None:
            storing.set()
            assert deleted.wait(20)
            super().set(key, value, ttl)

    cache.cache = Slow(10, 300)
    stored: list[bool] = []
    thread = threading.Thread(target=lambda: stored.append(run(cache.set(*REQUEST, {"allow": True}))))
    thread.start()
    assert storing.wait(20)
    run(cache.delete(*REQUEST))
    deleted.set()
    thread.join(20)
    assert stored == [False]
    assert run(cache.get(*REQUEST)) is None
