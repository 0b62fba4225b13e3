"""One computation per key at a time: whoever misses a key that is being computed waits for the one who computes it.

A *flight* is one such computation. Who starts it leads it, in its own thread or task; the others wait. An exception of
the leader reaches everybody. If the leader is stopped from outside (a cancelled task, a KeyboardInterrupt), one of
those who wait starts over.

Nobody waits for itself. Each flight knows the flights that the code it runs waits for, and a context variable knows
which flights the running code is part of, tasks that it started included. If waiting would close a circle, the caller
computes for itself.

Nothing here runs on a hit, and asyncio is imported by the first coroutine that has to wait.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Hashable
    from typing import Any

    from sark_cache._core import Cache

# What a look-up answers that finds nothing: None is a value.
ABSENT = object()

# The flights that the running code is part of, outermost first.
_under_way: ContextVar[tuple[Flight, ...]] = ContextVar("sark_cache_flights", default=())

# Held for a moment to change who waits for whom, never while anything of the caller's runs.
_graph = allocate_lock()

# How many forks led to this process: tables of flights from before a fork are stale, for their leaders are not here.
_forks = 0


def _in_child() -> None:
    global _graph, _forks
    _graph = allocate_lock()
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Flight:
    """One computation, those who wait for it, and whom it waits for."""

    __slots__ = ("_error", "_landed", "_over", "_tasks", "_value", "_waits_for", "abandoned")

    def __init__(self) -> None:
        self._over = False
        # Free once the flight is over; threads queue here.
        self._landed = allocate_lock()
        self._landed.acquire()
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._waits_for: list[Flight] = []
        self._value: Any = None
        self._error: Exception | None = None
        # The leader was stopped: there is no outcome.
        self.abandoned = False

    def land(self, value: Any = None, error: BaseException | None = None) -> None:
        """Ends the flight and wakes everybody."""
        if error is None:
            self._value = value
        elif isinstance(error, Exception):
            self._error = error
        else:
            self.abandoned = True
        with _graph:
            self._over = True
            tasks, self._tasks = self._tasks, []
        self._landed.release()
        for loop, future in tasks:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:
                pass  # That loop is closed: nobody waits there any more.

    def outcome(self) -> Any:
        """What the leader returned or raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self) -> bool:
        """Waits in this thread until the flight is over; False at once if it would wait for itself."""
        flights = _under_way.get()
        if not self._may_be_waited_for(flights):
            return False
        try:
            self._landed.acquire()
            self._landed.release()
        finally:
            self._no_longer_waited_for(flights)
        return True

    async def wait_async(self) -> bool:
        """Waits in this task."""
        from asyncio import get_running_loop

        flights = _under_way.get()
        if not self._may_be_waited_for(flights):
            return False
        try:
            loop = get_running_loop()
            future = loop.create_future()
            with _graph:
                if self._over:
                    return True
                self._tasks.append((loop, future))
            await future
        finally:
            self._no_longer_waited_for(flights)
        return True

    def _may_be_waited_for(self, flights: tuple[Flight, ...]) -> bool:
        """Notes that these flights wait for this one, unless it waits for one of them."""
        if not flights:
            return True
        with _graph:
            reached: set[Flight] = {self}
            to_see: list[Flight] = [self]
            while to_see:
                for flight in to_see.pop()._waits_for:
                    if flight not in reached:
                        reached.add(flight)
                        to_see.append(flight)
            if not reached.isdisjoint(flights):
                return False
            for flight in flights:
                flight._waits_for.append(self)
        return True

    def _no_longer_waited_for(self, flights: tuple[Flight, ...]) -> None:
        if flights:
            with _graph:
                for flight in flights:
                    flight._waits_for.remove(self)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Flights:
    """The flights of one cache or one decorated function, by key."""

    __slots__ = ("__weakref__", "_by_key", "_forks")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Flight] = {}
        self._forks = _forks

    def forget(self) -> None:
        """What is under way is given to those who wait for it, but not kept."""
        self._by_key = {}

    def run(
        self, key: Hashable, look: Callable[[], Any], compute: Callable[[], Any], keep: Callable[[Any], object]
    ) -> Any:
        """What ``compute()`` returns, here or in another thread that is at it; ``look()`` tells if it is there."""
        while True:
            flight, leads = self._join(key)
            if leads:
                break
            if not flight.wait():
                return compute()
            if not flight.abandoned:
                return flight.outcome()
        flights = _under_way.set((*_under_way.get(), flight))
        try:
            value = look()
            if value is ABSENT:
                value = compute()
                if self._by_key.get(key) is flight:
                    keep(value)
        except BaseException as error:
            self._end(key, flight, error=error)
            raise
        finally:
            _under_way.reset(flights)
        self._end(key, flight, value)
        return value

    async def run_async(
        self,
        key: Hashable,
        look: Callable[[], Any],
        compute: Callable[[], Awaitable[Any]],
        keep: Callable[[Any], object],
    ) -> Any:
        """The same for coroutines; those who wait may be in other loops."""
        while True:
            flight, leads = self._join(key)
            if leads:
                break
            if not await flight.wait_async():
                return await compute()
            if not flight.abandoned:
                return flight.outcome()
        flights = _under_way.set((*_under_way.get(), flight))
        try:
            value = look()
            if value is ABSENT:
                value = await compute()
                if self._by_key.get(key) is flight:
                    keep(value)
        except BaseException as error:
            self._end(key, flight, error=error)
            raise
        finally:
            _under_way.reset(flights)
        self._end(key, flight, value)
        return value

    def get_or_set(self, cache: Cache[Any, Any], key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """``Cache.get_or_set``, after a miss."""
        return self.run(key, lambda: cache.peek(key, ABSENT), factory, lambda value: cache._keep(key, value, ttl))

    def _join(self, key: Hashable) -> tuple[Flight, bool]:
        """The flight of a key, and whether it is a new one, which the caller leads."""
        if self._forks != _forks:
            # Those that the forking thread itself leads go on here.
            mine = _under_way.get()
            self._by_key = {key: flight for key, flight in self._by_key.items() if flight in mine}
            self._forks = _forks
        new = Flight()
        flight = self._by_key.setdefault(key, new)
        return flight, flight is new

    def _end(self, key: Hashable, flight: Flight, value: Any = None, error: BaseException | None = None) -> None:
        """Makes way for the next flight of the key, then wakes those who wait: they may want to start it."""
        try:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
        except BaseException:
            # The key raised when it was hashed or compared. Left there, this flight would be the answer for ever.
            self.forget()
            raise
        finally:
            flight.land(value, error)
