"""One computation per key at a time: whoever misses a key that is being computed waits for the one who computes it.

A *flight* is one such computation. Who starts it leads it, in its own thread or task; the others wait. An exception of
the leader reaches everybody. If the leader is stopped from outside (a cancelled task, a KeyboardInterrupt), one of
those who wait starts over.

Nobody waits for itself. Each flight has a *mark*, which knows the marks that the code it runs waits for; the running
code knows those of the flights that it is part of. If waiting would close a circle, the caller computes for itself.

All of this may be entered again at any point, by a finalizer that the garbage collector runs or by a signal handler, in
the same thread, and that code may wait in turn. So nothing is locked here: whoever waits says so first and looks for a
circle then, so that of several who would close one the last sees it. What is shared is changed in single steps
(``append``, ``remove``, ``setdefault``) and read by ``extend``, which is one, too.

Nothing here runs on a hit, and asyncio is imported by the first coroutine that has to wait.
"""

from __future__ import annotations

import os
from _thread import _local, allocate_lock
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from _thread import LockType
    from collections.abc import Awaitable, Callable, Hashable
    from types import TracebackType
    from typing import Any

    from sark_cache._core import Cache

# What a look-up answers that finds nothing: None is a value.
ABSENT = object()

# How many forks led to this process: tables of flights from before a fork are stale, for their leaders are not here.
_forks = 0


def _in_child() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Mark:
    """What others know a flight by. Contexts that were copied keep it for as long as they like, so it has no value."""

    __slots__ = ("over", "waits_for")

    def __init__(self) -> None:
        self.over = False
        self.waits_for: list[Mark] = []


# Of the computations that a thread is inside of, outermost first. Not a context variable: CPython up to 3.11 crashes if
# a finalizer sets one while another is being set, and finalizers may well miss in a cache.
_here = _local()

# Of coroutines, and of what they were part of when they began: a task that is started inside copies it. Never reset,
# since a coroutine may be closed in another context; marks of flights that are over count for nothing.
_coroutines: ContextVar[tuple[Mark, ...]] = ContextVar("sark_cache_marks", default=())


def _marks_here() -> list[Mark]:
    try:
        marks: list[Mark] = _here.marks
    except AttributeError:
        # In one step, unlike an assignment: a finalizer may be doing the same.
        marks = _here.__dict__.setdefault("marks", [])
    return marks


def _under_way() -> list[Mark]:
    """The marks of the flights that the running code is part of, each once."""
    marks = [*_coroutines.get(), *_marks_here()]
    return list(dict.fromkeys(mark for mark in marks if not mark.over)) if marks else marks


def _leave(marks: list[Mark], mark: Mark) -> None:
    if marks[-1] is mark:
        marks.pop()
    else:
        # Greenlets share a thread and end in any order.
        marks.remove(mark)


class Flight:
    """One computation, and those who wait for it."""

    __slots__ = ("_error", "_tasks", "_threads", "_traceback", "_value", "abandoned", "mark")

    def __init__(self) -> None:
        self.mark = Mark()
        # What those who wait sleep on. Each thread has a lock of its own, which nobody passes on: so a lock may be
        # released twice.
        self._threads: list[LockType] = []
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._value: Any = None
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None
        # The leader was stopped: there is no outcome.
        self.abandoned = False

    def land(self, value: Any = None, error: BaseException | None = None) -> None:
        """Ends the flight and wakes everybody. If a signal handler raises meanwhile and the flight is over already,
        ``wake`` is what is left to be done."""
        if error is None:
            self._value = value
        elif isinstance(error, Exception):
            self._error, self._traceback = error, error.__traceback__
        else:
            self.abandoned = True
        # First this, then those who wait: whoever comes to wait now looks at this last.
        self.mark.over = True
        self.wake()

    def wake(self) -> None:
        """Wakes everybody, now that the flight is over. All of it may be done again, as often as it takes."""
        for lock in self._threads:
            try:
                lock.release()
            except RuntimeError:
                pass  # It was released before, and that thread has yet to run.
        for loop, future in self._tasks:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:
                pass  # That loop is closed: nobody waits there any more.
        # Only now: who was taken out before being woken would be missing when it is done again. Whoever came meanwhile
        # sees that the flight is over.
        self._threads, self._tasks = [], []

    def outcome(self) -> Any:
        """What the leader returned or raised."""
        error = self._error
        if error is None:
            return self._value
        try:
            # It is the same exception for everybody. Without this it would have the tracebacks of all who had it before.
            raise error.with_traceback(self._traceback)
        finally:
            # The traceback holds this frame, which must not hold the exception in turn.
            del self, error

    def wait(self) -> bool:
        """Waits in this thread until the flight is over; False at once if it would wait for itself."""
        waiting: list[Mark] = []
        try:
            if not self._may_be_waited_for(waiting):
                return False
            lock = allocate_lock()
            lock.acquire()
            self._threads.append(lock)
            if not self.mark.over:
                # Until it is released elsewhere.
                lock.acquire()
        finally:
            self._no_longer_waited_for(waiting)
        return True

    async def wait_async(self) -> bool:
        """Waits in this task."""
        from asyncio import get_running_loop

        waiting: list[Mark] = []
        try:
            if not self._may_be_waited_for(waiting):
                return False
            loop = get_running_loop()
            future = loop.create_future()
            self._tasks.append((loop, future))
            if not self.mark.over:
                await future
        finally:
            self._no_longer_waited_for(waiting)
        return True

    def _may_be_waited_for(self, waiting: list[Mark]) -> bool:
        """Whether none of the flights that the running code is part of is waited for by this one. Those that wait for
        it from now on are added to ``waiting``."""
        marks = _under_way()
        for mark in marks:
            mark.waits_for.append(self.mark)
            waiting.append(mark)
        reached: set[Mark] = set()
        to_see = [self.mark] if marks else []
        while to_see:
            mark = to_see.pop()
            if mark in marks:
                return False
            if mark not in reached and not mark.over:
                reached.add(mark)
                to_see.extend(mark.waits_for)
        return True

    def _no_longer_waited_for(self, waiting: list[Mark]) -> None:
        for mark in waiting:
            mark.waits_for.remove(self.mark)


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
        within = _marks_here()
        while True:
            mine = Flight()
            joined: Flight | None = None
            mark = mine.mark
            # Before it can be found, and until it can't be any more: what a finalizer or a signal handler asks for
            # meanwhile must not wait for it.
            within.append(mark)
            try:
                joined = self._join(key, mine)
                if joined is mine:
                    value = look()
                    if value is ABSENT:
                        value = compute()
                        if self._by_key.get(key) is mine:
                            keep(value)
                    self._end(key, mine, value)
                    return value
            except BaseException as error:
                try:
                    self._give_up(key, mine, joined, error)
                finally:
                    # Again, for a signal handler may have raised in it. Nobody else would wake those who wait.
                    self._give_up(key, mine, joined, error)
                    # The traceback holds this frame, which must not hold what holds the exception.
                    del mine, joined
                raise
            finally:
                _leave(within, mark)
            if not joined.wait():
                return compute()
            if not joined.abandoned:
                try:
                    return joined.outcome()
                finally:
                    del mine, joined

    async def run_async(
        self,
        key: Hashable,
        look: Callable[[], Any],
        compute: Callable[[], Awaitable[Any]],
        keep: Callable[[Any], object],
    ) -> Any:
        """The same for coroutines; those who wait may be in other loops."""
        while True:
            mine = Flight()
            joined: Flight | None = None
            try:
                joined = self._join(key, mine)
                if joined is mine:
                    _coroutines.set((*_under_way(), mine.mark))
                    value = look()
                    if value is ABSENT:
                        value = await compute()
                        if self._by_key.get(key) is mine:
                            keep(value)
                    self._end(key, mine, value)
                    return value
            except BaseException as error:
                try:
                    self._give_up(key, mine, joined, error)
                finally:
                    self._give_up(key, mine, joined, error)
                    del mine, joined
                raise
            if not await joined.wait_async():
                return await compute()
            if not joined.abandoned:
                try:
                    return joined.outcome()
                finally:
                    del mine, joined

    def get_or_set(self, cache: Cache[Any, Any], key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """``Cache.get_or_set``, after a miss."""
        return self.run(key, lambda: cache.peek(key, ABSENT), factory, lambda value: cache._keep(key, value, ttl))

    def _join(self, key: Hashable, mine: Flight) -> Flight:
        """The flight of a key, which is ``mine`` if there was none."""
        if self._forks != _forks:
            # Those that the forking thread itself leads go on here.
            marks = _under_way()
            self._by_key = {key: flight for key, flight in self._by_key.items() if flight.mark in marks}
            self._forks = _forks
        return self._by_key.setdefault(key, mine)

    def _give_up(self, key: Hashable, mine: Flight, joined: Flight | None, error: BaseException) -> None:
        """Ends a flight that failed; also one that was joined although a signal kept the answer from arriving. Of one that
        is over, wakes those whom a signal kept from being woken."""
        if mine.mark.over:
            mine.wake()
        elif joined is mine or (joined is None and mine in list(self._by_key.values())):
            self._end(key, mine, error=error)

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
