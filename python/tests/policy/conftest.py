"""What the policy tests share: every kind of cache under one name, a real server, and a way to run coroutines.

With SARK_HIDE_EXTENSION=1 the native module can't be imported, and only the tests of the cache in plain
Python run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

HIDDEN = bool(os.environ.get("SARK_HIDE_EXTENSION"))


class Hide:
    """Makes the native module impossible to import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "sark_cache._core":
            raise ImportError("hidden")


if HIDDEN:
    sys.meta_path.insert(0, Hide())

from sark_cache.bench.redis_server import HOST, RedisServer, ServerUnavailable  # noqa: E402
from sark_cache.policy import PythonPolicyCache, RustPolicyCache  # noqa: E402
from sark_cache.policy import rust_cache as native  # noqa: E402

Result = TypeVar("Result")

BACKENDS = ("rust", "plain", "python", "redis")
"""Native look-ups; the native engine by plain calls; plain Python; a server."""


_connected: list[Any] = []
"""Caches that have connections, to be closed with each event loop."""


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Returns the result of a coroutine, run in its own event loop."""

    async def to_the_end() -> Result:
        try:
            return await asyncio.wait_for(coroutine, 30)
        finally:
            for cache in _connected:
                await cache.close()

    return asyncio.run(to_the_end())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HIDDEN:
        items[:] = [
            item
            for item in items
            if getattr(item, "callspec", None) and item.callspec.params.get("make_cache") == "python"
        ]


class PlainEngine(object if HIDDEN else native.RustCache):  # type: ignore[misc]
    """The native engine, but of another class, so that it is used through plain calls."""


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real server on a free port that stores nothing on disk."""
    pytest.importorskip("redis")
    try:
        server = RedisServer()
    except ServerUnavailable as why:
        pytest.skip(f"{why} (on Debian and Ubuntu: apt-get install redis-server)")
    with server:
        # The timeouts are generous: the tests must not depend on how busy the machine is.
        yield f"redis://{HOST}:{server.port}/0?socket_timeout=20&socket_connect_timeout=20"


@pytest.fixture(params=BACKENDS)
def make_cache(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes caches of each kind: `make_cache(**options)`."""
    if request.param == "redis":
        from sark_cache.policy.redis_cache import RedisPolicyCache

        url = request.getfixturevalue("redis_url")
        prefixes = iter(range(1000))

        def on_server(**options: Any) -> Any:
            # Each cache has its own prefix, so that tests don't see each other's decisions.
            kind = type("OwnPrefix", (RedisPolicyCache,), {"KEY_PREFIX": f"{request.node.name}:{next(prefixes)}"})
            _connected.append(cache := kind(redis_url=url, **options))
            return cache

        request.addfinalizer(_connected.clear)
        return on_server
    if request.param == "python":
        return PythonPolicyCache

    def in_process(**options: Any) -> RustPolicyCache:
        cache = RustPolicyCache(**options)
        if request.param == "plain":
            cache.cache = PlainEngine(cache.max_size, int(cache.ttl_seconds))
        return cache

    return in_process


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """A cache of each kind, with default settings."""
    return make_cache()
