"""``@cached``: keeps the results of a function, method or coroutine function by its arguments.

The native ``CachedFunction`` serves hits. This module handles what happens after a miss: one caller computes,
and the others wait (``_singleflight``). The types are in ``_decorator.pyi``.
"""

from __future__ import annotations

from sark_cache._core import Cache, CachedFunction
from sark_cache._singleflight import ABSENT, Flights

# Flags of a code object: defined with `async def`; contains a `yield`. Copied from `inspect`, which takes
# long to import.
_IS_COROUTINE = 0x80
_IS_GENERATOR = 0x20 | 0x200


class CacheInfo(tuple):
    """The result of ``cache_info()``: hits, misses, maxsize and currsize, as in ``functools``."""

    __slots__ = ()

    def __new__(cls, hits, misses, maxsize, currsize):
        return super().__new__(cls, (hits, misses, maxsize, currsize))

    hits = property(lambda self: self[0], doc="Calls that found a value.")
    misses = property(lambda self: self[1], doc="Calls that found none.")
    maxsize = property(lambda self: self[2], doc="The bound.")
    currsize = property(lambda self: self[3], doc="What is used of it.")

    def __getnewargs__(self):
        return tuple(self)

    def __repr__(self):
        return "CacheInfo(hits=%r, misses=%r, maxsize=%r, currsize=%r)" % self


def cached(cache_or_maxsize, /, *, ttl=None, key=None, typed=False):
    """Keeps the results of a function, a method or an ``async def`` function by its hashable arguments.

    ``cache_or_maxsize`` is a ``Cache``, or the size of a new cache for this function alone. Functions may
    share a cache; each finds only its own results. ``ttl`` is how many seconds a result is kept. ``key(*args,
    **kwargs)`` makes the key instead; functions that share a cache then share results with equal keys. If
    ``typed`` is true, 1 and 1.0 are different arguments.

    If several callers miss the same key, one computes and the others wait for it. If it raises, they raise
    too, and nothing is kept. A function that needs its own result to compute it doesn't hang: it is called
    again.

    >>> @cached(1000, ttl=60)
    ... def square(number):
    ...     return number * number
    >>> square(4)
    16
    """
    shared = isinstance(cache_or_maxsize, Cache)
    if not shared and (isinstance(cache_or_maxsize, bool) or not isinstance(cache_or_maxsize, int)):
        kind = type(cache_or_maxsize).__name__
        hint = "; write @cached(1000)" if callable(cache_or_maxsize) else ""
        raise TypeError(f"cached() takes a Cache or a maxsize, not {kind}{hint}")
    if key is not None and not callable(key):
        raise TypeError(f"key must be callable, not {type(key).__name__}")
    if shared:
        cache, keep_for = cache_or_maxsize, ttl
        Cache(1, ttl=ttl)  # Refuses an invalid time-to-live now, not at the first call.
    else:
        cache, keep_for = Cache(cache_or_maxsize, ttl=ttl), None

    def decorate(function):
        if isinstance(function, (classmethod, staticmethod)):
            raise TypeError(f"put @{type(function).__name__} above @cached, not below")
        if not callable(function):
            raise TypeError(f"cached() decorates functions, not {type(function).__name__}")
        from functools import update_wrapper  # Takes longer to import than this package.

        flags = _flags_of(function)
        if flags & _IS_GENERATOR:
            raise TypeError(
                "cached() can't keep what a generator function returns: a generator can be used only once. "
                "Return a list or a tuple"
            )
        make = _make_async if flags & _IS_COROUTINE else _make_sync
        wrapper, native = make(function, cache, Flights(), keep_for, key, typed, shared)
        for named in {wrapper, native}:
            update_wrapper(named, function)
        vars(wrapper)["cache_info"] = _info_of(cache)
        return wrapper

    return decorate


def _flags_of(function):
    """Returns the code flags of a function.

    Works for methods, partials and objects with a ``__call__``, too, and for whatever has a code object with
    flags, as an ``AsyncMock`` does.
    """
    from functools import partial

    # Only partials are unwrapped: other objects may have any attribute, endlessly.
    while isinstance(function, partial):
        function = function.func
    for called in (function, getattr(type(function), "__call__", None)):
        flags = getattr(getattr(called, "__code__", None), "co_flags", None)
        if isinstance(flags, int):
            return flags
    return 0


def _make_sync(function, cache, flights, ttl, key, typed, shared):
    def fill(made_key, args, kwargs):
        return flights.run(
            made_key,
            lambda: cache.peek(made_key, ABSENT),
            lambda: function(*args, **kwargs),
            lambda value: cache._keep(made_key, value, ttl),
        )

    wrapper = CachedFunction(cache, fill, flights.forget, key, typed, shared)
    return wrapper, wrapper


def _make_async(function, cache, flights, ttl, key, typed, shared):
    async def fill(first, others, kwargs):
        args = others if first is ABSENT else (first, *others)
        made_key = make_key(*args, **kwargs)
        return await flights.run_async(
            made_key,
            lambda: cache.peek(made_key, ABSENT),
            lambda: function(*args, **kwargs),
            lambda value: cache._keep(made_key, value, ttl),
        )

    # This is what a hit runs. It is apart from `fill`, so that it doesn't pay for what those lambdas capture,
    # and it names the first argument, so that a lone argument needs no tuple.
    async def wrapper(first=ABSENT, /, *others, **kwargs):
        value = find(first, others, kwargs, ABSENT)
        if value is ABSENT:
            return await fill(first, others, kwargs)
        return value

    native = CachedFunction(cache, None, flights.forget, key, typed, shared)
    find, make_key = native.find, native.cache_key
    vars(wrapper).update(cache=cache, cache_key=make_key, cache_clear=native.cache_clear)
    return wrapper, native


def _info_of(cache):
    def cache_info():
        """Returns hits and misses so far, the bound, and how much of it is used. A shared cache counts as a whole."""
        stats = cache.stats()
        return CacheInfo(stats.hits, stats.misses, cache.maxsize, cache.currsize)

    return cache_info
