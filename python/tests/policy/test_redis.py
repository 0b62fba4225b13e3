"""Redis only: several processes over one real server, and what happens when it loses data or goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import Any
from unittest.mock import patch

import pytest

from policy.conftest import run
from sark_cache.bench.redis_server import HOST, RedisServer, ServerUnavailable

redis_asyncio = pytest.importorskip("redis.asyncio")

from sark_cache.policy import breaker  # noqa: E402
from sark_cache.policy.redis_cache import GENERATION_TTL_SECONDS, RedisPolicyCache  # noqa: E402

REQUEST = ("alice", "read", "doc:1")


@pytest.fixture
def own(request: pytest.FixtureRequest) -> type[RedisPolicyCache]:
    """The class with a prefix that no other test has."""
    return type("Own", (RedisPolicyCache,), {"KEY_PREFIX": request.node.name})


def test_processes_share_decisions_and_invalidations(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        # The caches have separate connections, as processes do.
        one, other = own(redis_url=redis_url), own(redis_url=redis_url)
        await one.set(*REQUEST, {"allow": True})
        assert await other.get(*REQUEST) == {"allow": True}
        missed = await other.lookup("alice", "write", "doc:1")
        await one.invalidate("alice")
        assert await other.get(*REQUEST) is None
        assert await other.set("alice", "write", "doc:1", {"allow": True}, token=missed.token) is False
        assert await other.set("alice", "write", "doc:1", {"allow": True}) is False
        await one.close()
        await other.close()

    run(scenario())


def test_an_entry_that_was_stored_during_an_invalidation_is_not_served(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        cache = own(redis_url=redis_url)
        missed = await cache.lookup(*REQUEST)
        admitted = cache._admitted_state

        async def invalidated_after(*arguments: Any) -> Any:
            state = await admitted(*arguments)
            await cache.invalidate("alice")
            return state

        cache._admitted_state = invalidated_after
        await cache.set(*REQUEST, {"allow": True}, token=missed.token)
        assert await cache.get(*REQUEST) is None
        await cache.close()

    run(scenario())


def test_a_server_that_lost_its_generations_serves_nothing_of_before(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        cache, client = own(redis_url=redis_url), redis_asyncio.from_url(redis_url)
        for lost in ("generation", "generation:user:*"):
            missed = await cache.lookup(*REQUEST)
            assert await cache.set(*REQUEST, {"allow": True}, token=missed.token)
            async for name in client.scan_iter(match=f"{own.KEY_PREFIX}:{lost}".replace("[", "\\[")):
                await client.delete(name)
            assert await cache.get_batch([(*REQUEST, None)]) == [None]
            assert await cache.set(*REQUEST, {"allow": True}, token=missed.token) is False
            assert await cache.get(*REQUEST) is None
        await client.aclose()
        await cache.close()

    run(scenario())


def test_entries_do_not_outlive_the_generations_they_depend_on(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        cache, client = own(redis_url=redis_url), redis_asyncio.from_url(redis_url)
        await cache.set(*REQUEST, {"allow": True}, ttl_seconds=10 * GENERATION_TTL_SECONDS)
        remaining = await client.ttl(cache._generate_cache_key(*REQUEST))
        assert GENERATION_TTL_SECONDS - 60 < remaining <= GENERATION_TTL_SECONDS
        await client.aclose()
        await cache.close()

    run(scenario())


def test_a_client_may_be_passed_and_is_left_open(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        client = redis_asyncio.from_url(redis_url)
        cache = own(client=client)
        await cache.set(*REQUEST, {"allow": True})
        await cache.close()
        assert await client.ping()
        assert await cache.get(*REQUEST) == {"allow": True}
        assert await cache.size() >= 3
        await client.aclose()

    run(scenario())


def test_a_client_that_decodes_is_refused(redis_url: str) -> None:
    async def scenario() -> None:
        client = redis_asyncio.from_url(redis_url, decode_responses=True)
        with pytest.raises(ValueError, match="decode_responses"):
            RedisPolicyCache(client=client)
        await client.aclose()

    run(scenario())
    for arguments in ({}, {"redis_url": redis_url, "client": object()}):
        with pytest.raises(ValueError, match="redis_url or client"):
            RedisPolicyCache(**arguments)


def test_while_the_server_is_away_look_ups_miss_and_invalidations_raise() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}"

        async def scenario() -> None:
            cache = RedisPolicyCache(redis_url=url)
            assert await cache.get(*REQUEST) is None
            assert await cache.set(*REQUEST, {"allow": True}) is False
            assert await cache.get_batch([(*REQUEST, None)]) == [None]
            assert await cache.health_check() is False
            assert await cache.size() == 0
            assert await cache.get_or_evaluate(*REQUEST, evaluate=lambda: {"allow": True}) == {"allow": True}
            for invalidate in (cache.invalidate("alice"), cache.clear(), cache.delete(*REQUEST)):
                with pytest.raises(redis_asyncio.ConnectionError):
                    await invalidate
            await cache.close()

        run(scenario())


def test_more_requests_at_once_than_connections_are_all_hits(own: Any, redis_url: str) -> None:
    async def scenario() -> None:
        cache = own(redis_url=f"{redis_url}&timeout=20")
        await cache.set(*REQUEST, {"allow": True})
        assert await asyncio.gather(*(cache.get(*REQUEST) for _ in range(300))) == [{"allow": True}] * 300
        assert cache.metrics.errors == 0
        assert len(cache._server().connection_pool._available_connections) <= 50
        await cache.close()

    run(scenario())


def test_a_server_that_hangs_delays_one_look_up_and_not_the_next_ones(own: Any) -> None:
    try:
        server = RedisServer()
    except ServerUnavailable as why:
        pytest.skip(str(why))

    async def scenario() -> None:
        cache = own(redis_url=f"redis://{HOST}:{server.port}/0?socket_timeout=1&socket_connect_timeout=5")
        now = 1000.0

        def evaluated() -> Any:
            return cache.get_or_evaluate(*REQUEST, evaluate=lambda: {"allow": False})

        with patch.object(breaker, "monotonic", lambda: now):
            await cache.set(*REQUEST, {"allow": True})
            assert await evaluated() == {"allow": True}
            os.kill(server._process.pid, signal.SIGSTOP)
            try:
                begun = time.monotonic()
                assert await evaluated() == {"allow": False}
                assert 0.9 < time.monotonic() - begun < 10
                errors = cache.metrics.errors
                for _ in range(100):
                    assert await evaluated() == {"allow": False}
                assert cache.metrics.skipped >= 100
                assert await cache.set(*REQUEST, {"allow": False}) is False
                assert await cache.get_batch([(*REQUEST, None)]) == [None]
                # None of them waited.
                assert cache.metrics.errors == errors
                # These two are never skipped.
                with pytest.raises(redis_asyncio.TimeoutError):
                    await cache.invalidate("alice")
                assert await cache.health_check() is False
            finally:
                os.kill(server._process.pid, signal.SIGCONT)
            # The server is asked again after the pause.
            assert await cache.get(*REQUEST) is None
            now += 1
            answer = await cache.get(*REQUEST)
            assert answer is None or answer == {"allow": True}
            assert cache._breaker.lets_through() and cache.metrics.errors == errors
        await cache.close()

    with server:
        run(scenario())


def test_pauses_double_and_one_at_a_time_asks_whether_the_server_is_back() -> None:
    now = 0.0
    with patch.object(breaker, "monotonic", lambda: now):
        way = breaker.Breaker()
        assert way.lets_through() and way.lets_through()
        way.timed_out()
        way.timed_out()
        for pause in (1, 2, 4, 8, 16, 30, 30):
            now += pause - 0.1
            assert not way.lets_through()
            now += 0.1
            assert way.lets_through()
            assert not way.lets_through()
            way.timed_out()
        way.answered()
        assert way.lets_through() and way.lets_through()
        way.timed_out()
        now += 1
        assert way.lets_through()


def test_several_loops_have_connections_of_their_own(own: Any, redis_url: str) -> None:
    cache = own(redis_url=redis_url)

    async def scenario(number: int) -> None:
        await cache.set("u", "a", f"r{number}", {"n": number})
        assert await cache.get("u", "a", f"r{number}") == {"n": number}
        await cache.close()

    run(scenario(1))
    run(scenario(2))

    async def in_threads() -> None:
        await asyncio.gather(*(asyncio.to_thread(run, scenario(number)) for number in range(3, 6)))

    run(in_threads())
    assert cache.metrics.hits == 5
