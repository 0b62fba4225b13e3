"""The caches that are compared, each behind the few calls that are timed.

The calls are the cache's own bound methods wherever its interface allows, so that none of our code is timed.
The rare wrapper is documented where it is defined. A cache that can't do something raises `Absent` with the
reason, which the report shows.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .redis_server import HOST, RedisServer, ServerUnavailable

OURS = "sark-cache"
"""The contestant that all others are compared with: `sark_cache.Cache`."""


class Absent(Exception):
    """A contestant can't take part. The message says why."""


@dataclass
class Store:
    """One cache, ready for use."""

    get: Callable[[str], object]
    put: Callable[[str, str], object] | None = None
    """A method that stores."""
    mapping: MutableMapping[str, str] | None = None
    """The cache itself, if it stores by ``cache[key] = value``."""
    get_many: Callable[[list[str]], object] | None = None
    found: Callable[[object], bool] = lambda answer: answer is not None
    """Whether an answer of ``get`` is a hit."""
    close: Callable[[], None] = lambda: None

    def fill(self, keys: list[str], value: str) -> None:
        """Stores the value under every key."""
        for key in keys:
            if self.mapping is not None:
                self.mapping[key] = value
            elif self.put is not None:
                self.put(key, value)


@dataclass
class _RemoteStore(Store):
    """A store that is filled in a single trip. Only filling uses the pipeline, while no clock is running."""

    pipeline: Callable[[], Any] = lambda: None

    def fill(self, keys: list[str], value: str) -> None:
        pipeline = self.pipeline()
        for key in keys:
            pipeline.set(key, value)
        pipeline.execute()


Function = Callable[[str], str]
AsyncFunction = Callable[[str], Awaitable[str]]


class Contestant:
    """A cache that may be installed or not. Its ``__init__`` raises `Absent` if it isn't."""

    name: str
    distribution: str | None = None
    """The name on the package index; None if it comes with Python."""
    module: str | None = None
    """What a program imports to use it; None if there is nothing to import."""

    def __init__(self) -> None:
        self._module: Any = None if self.module is None else _module(self.module)

    def store(self, capacity: int, ttl: float | None) -> Store:
        """Returns a cache of at most ``capacity`` entries that live for ``ttl`` seconds, or for ever."""
        raise Absent("it is for functions only")

    def evicting_store(self, capacity: int, ttl: float | None) -> Store:
        """Does the same as ``store`` for a test that stores more than fits."""
        return self.store(capacity, ttl)

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        """Returns the function with its results cached."""
        raise Absent("it has no decorator")

    def decorate_async(self, function: AsyncFunction, capacity: int, ttl: float | None) -> AsyncFunction:
        """Returns the coroutine function with its results cached."""
        raise Absent("it has no decorator for coroutine functions")


class SarkCache(Contestant):
    name, distribution, module = OURS, "sark-cache", "sark_cache"

    def __init__(self) -> None:
        # Without its native part the package can be imported, but has no caches.
        self._module = _module("sark_cache", "Cache")

    def store(self, capacity: int, ttl: float | None) -> Store:
        cache = self._module.Cache(capacity, ttl=ttl)
        return Store(cache.get, cache.set, cache, cache.get_many)

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        decorated: Function = self._module.cached(capacity, ttl=ttl)(function)
        return decorated

    def decorate_async(self, function: AsyncFunction, capacity: int, ttl: float | None) -> AsyncFunction:
        decorated: AsyncFunction = self._module.cached(capacity, ttl=ttl)(function)
        return decorated


class SarkRustCache(Contestant):
    """Holds only strings, which are copied in and out."""

    name, distribution = "sark-cache RustCache", "sark-cache"

    def __init__(self) -> None:
        self._module = _module("sark_cache", "RustCache")

    def store(self, capacity: int, ttl: float | None) -> Store:
        if ttl is None:
            raise Absent("every entry of it has a time-to-live")
        cache = self._module.RustCache(capacity, int(ttl))
        return Store(cache.get, cache.set, get_many=cache.get_many)


class Dict(Contestant):
    """What Python itself can do without bound, order or deadline: the floor."""

    name = "dict"

    def store(self, capacity: int, ttl: float | None) -> Store:
        _no_ttl(ttl)
        cache: dict[str, str] = {}
        return Store(cache.get, mapping=cache)

    def evicting_store(self, capacity: int, ttl: float | None) -> Store:
        raise Absent("it never evicts")


class NoCache(Contestant):
    """The function itself, which does nothing but return: the floor for decorators, not a cache."""

    name = "undecorated"

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        _no_ttl(ttl)
        return function

    def decorate_async(self, function: AsyncFunction, capacity: int, ttl: float | None) -> AsyncFunction:
        _no_ttl(ttl)
        return function


class LruCache(Contestant):
    name, module = "functools.lru_cache", "functools"

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        _no_ttl(ttl)
        return functools.lru_cache(capacity)(function)


class Cachebox(Contestant):
    """Its LRU cache or, with a time-to-live, its TTL cache, which evicts the oldest entry instead."""

    name = distribution = module = "cachebox"

    def _cache(self, capacity: int, ttl: float | None) -> Any:
        return self._module.LRUCache(capacity) if ttl is None else self._module.TTLCache(capacity, ttl)

    def store(self, capacity: int, ttl: float | None) -> Store:
        cache = self._cache(capacity, ttl)
        return Store(cache.get, cache.insert, cache)

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        decorated: Function = self._module.cached(self._cache(capacity, ttl))(function)
        return decorated

    def decorate_async(self, function: AsyncFunction, capacity: int, ttl: float | None) -> AsyncFunction:
        decorated: AsyncFunction = self._module.cached(self._cache(capacity, ttl))(function)
        return decorated


class Cachetools(Contestant):
    name = distribution = module = "cachetools"

    def _cache(self, capacity: int, ttl: float | None) -> Any:
        return self._module.LRUCache(capacity) if ttl is None else self._module.TTLCache(capacity, ttl)

    def store(self, capacity: int, ttl: float | None) -> Store:
        cache = self._cache(capacity, ttl)
        return Store(cache.get, mapping=cache)

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        decorated: Function = self._module.cached(self._cache(capacity, ttl))(function)
        return decorated


class LruDict(Contestant):
    name = distribution = "lru-dict"
    module = "lru"

    def store(self, capacity: int, ttl: float | None) -> Store:
        _no_ttl(ttl)
        cache = self._module.LRU(capacity)
        return Store(cache.get, mapping=cache)


class MokaPy(Contestant):
    """Uses its LRU policy. The default policy refuses new entries, so setting would not be comparable."""

    name = distribution = "moka-py"
    module = "moka_py"

    def store(self, capacity: int, ttl: float | None) -> Store:
        cache = self._module.Moka(capacity, ttl=ttl, policy="lru")
        return Store(cache.get, cache.set)

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        decorated: Function = self._module.cached(capacity, ttl=ttl, policy="lru")(function)
        return decorated

    def decorate_async(self, function: AsyncFunction, capacity: int, ttl: float | None) -> AsyncFunction:
        decorated: AsyncFunction = self._module.cached(capacity, ttl=ttl, policy="lru")(function)
        return decorated


class Theine(Contestant):
    name = distribution = module = "theine"

    def store(self, capacity: int, ttl: float | None) -> Store:
        cache = self._module.Cache(capacity)
        put = cache.set if ttl is None else functools.partial(cache.set, ttl=timedelta(seconds=ttl))
        return Store(cache.get, put, found=lambda answer: bool(answer[1]), close=cache.close)  # type: ignore[index]

    def decorate(self, function: Function, capacity: int, ttl: float | None) -> Function:
        decorated: Function = self._module.Memoize(capacity, None if ttl is None else timedelta(seconds=ttl))(function)
        return decorated

    decorate_async = decorate  # type: ignore[assignment]


class Redis(Contestant):
    """Another process, over the loopback interface, through redis-py. Shows what an in-process cache saves."""

    name = distribution = module = "redis"

    def store(self, capacity: int, ttl: float | None) -> Store:
        with ExitStack() as stack:
            try:
                server = stack.enter_context(RedisServer())
            except ServerUnavailable as reason:
                raise Absent(str(reason)) from None
            client = self._module.Redis(HOST, server.port)
            stack.callback(client.close)
            put = client.set if ttl is None else functools.partial(client.set, ex=int(ttl))
            return _RemoteStore(
                client.get, put, get_many=client.mget, close=stack.pop_all().close, pipeline=client.pipeline
            )

    def evicting_store(self, capacity: int, ttl: float | None) -> Store:
        raise Absent("it bounds memory, not the number of entries")


CONTESTANTS: dict[str, type[Contestant]] = {
    contestant.name: contestant
    for contestant in (
        SarkCache,
        SarkRustCache,
        Dict,
        NoCache,
        LruCache,
        Cachebox,
        Cachetools,
        LruDict,
        MokaPy,
        Theine,
        Redis,
    )
}
"""All contestants by name, in the order of the report."""


def _module(name: str, attribute: str | None = None) -> Any:
    try:
        module = importlib.import_module(name)
        if attribute is not None:
            getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise Absent(f"it can't be imported: {error}") from None
    return module


def _no_ttl(ttl: float | None) -> None:
    if ttl is not None:
        raise Absent("it has no time-to-live")
