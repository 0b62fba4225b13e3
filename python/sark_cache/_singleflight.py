"""One computation per key at a time: a caller that misses a key under computation waits for the result.

A *flight* is one such computation. The caller that starts it leads it, in its own thread or task; the others
wait. An exception of the leader reaches all of them. If the leader is stopped from outside (a cancelled task,
a KeyboardInterrupt), one of the waiting callers starts over.

No caller waits for itself. Each flight has a *mark*, which records the marks that the code inside the flight
waits for. The running code knows the marks of the flights that it is part of. If waiting would close a
circle, the caller computes for itself.

All of this code may be re-entered at any point in the same thread, by a finalizer that the garbage collector
runs or by a signal handler, and that code may wait in turn. So nothing is locked here. A caller that waits
announces that first and looks for a circle afterwards, so that if several callers would close one, the last
of them sees it. Shared state is changed in single steps (``append``, ``remove``, ``setdefault``) and read by
``extend``, which is also a single step.

Nothing here runs on a hit. The first coroutine that has to wait imports asyncio.
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

# The answer of a look-up that finds nothing. None is a value.
ABSENT = object()

# How many forks led to this process. Tables of flights from before a fork are stale, since their leaders are
# not here.
_forks = 0


def _in_child() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Mark:
    """The identity of a flight. It holds no value, because copied contexts keep it as long as they like."""

    __slots__ = ("over", "waits_for")

    def __init__(self) -> None:
        self.over = False
        self.waits_for: list[Mark] = []


# The marks of the computations that a thread is inside of, outermost first. Not a context variable: CPython
# up to 3.11 crashes if a finalizer sets one while another is being set, and finalizers may well miss in a
# cache.
_here = _local()

# The marks of coroutines, and of what they were part of when they began: a task that is started inside copies
# them. Never reset, since a coroutine may be closed in another context. Marks of flights that are over are
# ignored.
_coroutines: ContextVar[tuple[Mark, ...]] = ContextVar("sark_cache_marks", default=())


def _marks_here() -> list[Mark]:
    try:
        marks: list[Mark] = _here.marks
    except AttributeError:
        # A single step, unlike an assignment: a finalizer may be doing the same.
        marks = _here.__dict__.setdefault("marks", [])
    return marks


def _under_way() -> list[Mark]:
    """Returns the marks of the flights that the running code is part of, each once."""
    marks = [*_coroutines.get(), *_marks_here()]
    return list(dict.fromkeys(mark for mark in marks if not mark.over)) if marks else marks


def _leave(marks: list[Mark], mark: Mark) -> None:
    if marks[-1] is mark:
        marks.pop()
    else:
        # Greenlets share a thread and end in any order.
        marks.remove(mark)


class Flight:
    """One computation, and the callers that wait for it."""

    __slots__ = ("_error", "_tasks", "_threads", "_traceback", "_value", "abandoned", "mark")

    def __init__(self) -> None:
        self.mark = Mark()
        # What waiting callers sleep on. Each thread has a lock of its own that is never passed on, so a lock
        # may be released twice.
        self._threads: list[LockType] = []
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._value: Any = None
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None
        # There is no outcome: the leader was stopped, or found the value in the cache, where the waiting callers
        # are to look, too.
        self.abandoned = False

    def land(self, value: Any = None, error: BaseException | None = None, *, found: bool = False) -> None:
        """Ends the flight and wakes all waiting callers.

        They don't get a value that was ``found`` in the cache. It may be cleared by a call that had forgotten all
        flights before this one was there, and callers that came only after that may be waiting.

        If a signal handler raises meanwhile and the flight is already over, only ``wake`` remains to be done.
        """
        if found:
            self.abandoned = True
        elif error is None:
            self._value = value
        elif isinstance(error, Exception):
            self._error, self._traceback = error, error.__traceback__
        else:
            self.abandoned = True
        # This comes before waking: a caller that comes to wait now checks it last.
        self.mark.over = True
        self.wake()

    def wake(self) -> None:
        """Wakes all waiting callers, now that the flight is over. May be repeated as often as needed."""
        for lock in self._threads:
            try:
                lock.release()
            except RuntimeError:
                pass  # It was released before, and that thread has yet to run.
        for loop, future in self._tasks:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:
                pass  # That loop is closed, so nothing waits there any more.
        # Cleared only now: an entry taken out before its caller was woken would be missing on a repetition. A
        # caller that came meanwhile sees that the flight is over.
        self._threads, self._tasks = [], []

    def outcome(self) -> Any:
        """Returns what the leader returned, or raises what it raised."""
        error = self._error
        if error is None:
            return self._value
        try:
            # All callers get the same exception. Otherwise it would collect the tracebacks of all callers
            # that got it before.
            raise error.with_traceback(self._traceback)
        finally:
            # The traceback holds this frame, which must not hold the exception in turn.
            del self, error

    def wait(self) -> bool:
        """Waits in this thread until the flight is over. Returns False at once if it would wait for itself."""
        waiting: list[Mark] = []
        try:
            if not self._may_be_waited_for(waiting):
                return False
            lock = allocate_lock()
            lock.acquire()
            self._threads.append(lock)
            if not self.mark.over:
                # This blocks until another thread releases the lock.
                lock.acquire()
        finally:
            self._no_longer_waited_for(waiting)
        return True

    async def wait_async(self) -> bool:
        """Waits in this task until the flight is over. Returns False at once if it would wait for itself."""
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
        """Returns whether this flight waits for none of the flights that the running code is part of.

        Marks that wait for this flight from now on are added to ``waiting``.
        """
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
        """Makes sure that results under way reach the callers that wait for them, but are not kept."""
        self._by_key = {}

    def run(
        self, key: Hashable, look: Callable[[], Any], compute: Callable[[], Any], keep: Callable[[Any], object]
    ) -> Any:
        """Returns the result of ``compute()``, run here or by another thread.

        ``look()`` returns a value that is already stored, or ``ABSENT``.
        """
        within = _marks_here()
        while True:
            mine = Flight()
            joined: Flight | None = None
            mark = mine.mark
            # The mark is entered before the flight can be found, and stays until it can't be found any more.
            # What a finalizer or a signal handler asks for meanwhile must not wait for it.
            within.append(mark)
            try:
                joined = self._join(key, mine)
                if joined is mine:
                    value = look()
                    found = value is not ABSENT
                    if not found:
                        value = compute()
                        if self._by_key.get(key) is mine:
                            keep(value)
                    self._end(key, mine, value, found=found)
                    return value
            except BaseException as error:
                try:
                    self._give_up(key, mine, joined, error)
                finally:
                    # Repeated, because a signal handler may have raised in it. Nothing else would wake the
                    # waiting callers.
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
        """Does what ``run`` does, for coroutines. The waiting callers may be in other loops."""
        while True:
            mine = Flight()
            joined: Flight | None = None
            try:
                joined = self._join(key, mine)
                if joined is mine:
                    _coroutines.set((*_under_way(), mine.mark))
                    value = look()
                    found = value is not ABSENT
                    if not found:
                        value = await compute()
                        if self._by_key.get(key) is mine:
                            keep(value)
                    self._end(key, mine, value, found=found)
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
        """Implements ``Cache.get_or_set`` after a miss."""
        return self.run(key, lambda: cache.peek(key, ABSENT), factory, lambda value: cache._keep(key, value, ttl))

    def _join(self, key: Hashable, mine: Flight) -> Flight:
        """Returns the flight of a key, which is ``mine`` if there was none."""
        if self._forks != _forks:
            # Flights that the forking thread itself leads continue here.
            marks = _under_way()
            self._by_key = {key: flight for key, flight in self._by_key.items() if flight.mark in marks}
            self._forks = _forks
        return self._by_key.setdefault(key, mine)

    def _give_up(self, key: Hashable, mine: Flight, joined: Flight | None, error: BaseException) -> None:
        """Ends a flight that failed, also one that was joined although a signal kept the answer from arriving.

        If the flight is over, wakes the callers that a signal kept from being woken.
        """
        if mine.mark.over:
            mine.wake()
        elif joined is mine or (joined is None and mine in list(self._by_key.values())):
            self._end(key, mine, error=error)

    def _end(
        self,
        key: Hashable,
        flight: Flight,
        value: Any = None,
        error: BaseException | None = None,
        *,
        found: bool = False,
    ) -> None:
        """Makes way for the next flight of the key, then wakes the waiting callers, which may want to start it."""
        try:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
        except BaseException:
            # The key raised when it was hashed or compared. If it stayed, this flight would be the answer for
            # ever.
            self.forget()
            raise
        finally:
            flight.land(value, error, found=found)
