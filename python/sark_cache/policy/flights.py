"""Evaluations under way, shared by callers that want the same decision at the same time.

An evaluation runs in a task of its own. The caller that began it may be cancelled, and the others still get
their decision. The evaluation is cancelled when no caller waits for it any more. Calls that would wait for
themselves, directly or in a circle, evaluate on their own.

Importing this module imports asyncio, so it is imported on the first miss. It knows nothing of caches: it
shares work.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

Result = TypeVar("Result")


class EvaluationCancelled(RuntimeError):
    """The evaluation was cancelled from inside.

    The callers that waited for it get this exception, since they were not cancelled.
    """


class Flight(Generic[Result]):
    """One evaluation under way."""

    __slots__ = ("abandoned", "awaits", "task", "waiters")

    def __init__(self) -> None:
        self.task: asyncio.Task[Result]
        self.waiters = 0
        self.abandoned = False
        """Cancelled because no caller waits any more."""
        self.awaits: list[Flight[Any]] = []
        """The flights that this one's evaluation is waiting for."""

    def over(self, _task: asyncio.Task[Result]) -> None:
        """Forgets the task. The callers that wait for it hold it."""
        del self.task

    def leads_to(self, other: Flight[Any]) -> bool:
        """Returns whether this is, or waits for, the other. Linear in the evaluations that wait for each other."""
        seen: list[Flight[Any]] = []
        todo: list[Flight[Any]] = [self]
        while todo:
            flight = todo.pop()
            if flight is other:
                return True
            if flight not in seen:
                seen.append(flight)
                todo += flight.awaits
        return False


_inside: ContextVar[Flight[Any] | None] = ContextVar("sark_cache_policy_inside", default=None)
"""The flight whose evaluation this code belongs to.

Tasks that an evaluation starts keep it for as long as they live, so a flight that is over no longer knows its
task, which has the decision.
"""


class Flights(Generic[Result]):
    """The evaluations under way of one cache, per event loop. Loops don't wait for each other."""

    __slots__ = ("_by_loop",)

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Flight[Result]]] = WeakKeyDictionary()

    async def share(self, key: str, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Returns the result of ``work``, or of the same work already under way. Exceptions reach all callers."""
        loop = asyncio.get_running_loop()
        flights = self._by_loop.setdefault(loop, {})
        flight, inside = flights.get(key), _inside.get()
        if flight is None:
            flight = self._start(loop, flights, key, work)
        elif inside is not None and flight.leads_to(inside):
            return await work()
        flight.waiters += 1
        task = flight.task
        if inside is not None:
            inside.awaits.append(flight)
        try:
            return await asyncio.shield(task)
        finally:
            if inside is not None:
                inside.awaits.remove(flight)
            flight.waiters -= 1
            if flight.waiters == 0 and not task.done():
                flight.abandoned = True
                # It can't be joined any more, since it ends without a result.
                self._forget(flights, key, flight)
                task.cancel()

    def in_background(self, key: str, work: Callable[[], Coroutine[Any, Any, Result]]) -> bool:
        """Starts ``work`` without waiting for it, unless the same is under way. Returns whether it did.

        An exception reaches the callers that join it meanwhile. If there may be none, ``work`` has to report
        it.
        """
        loop = asyncio.get_running_loop()
        flights = self._by_loop.setdefault(loop, {})
        if key in flights:
            return False
        flight = self._start(loop, flights, key, work)
        # No caller's cancellation ends it: it counts as waiting for itself.
        flight.waiters = 1
        flight.task.add_done_callback(_mark_as_retrieved)
        return True

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        flights: dict[str, Flight[Result]],
        key: str,
        work: Callable[[], Coroutine[Any, Any, Result]],
    ) -> Flight[Result]:
        flight: Flight[Result] = Flight()

        async def fly() -> Result:
            _inside.set(flight)
            try:
                return await work()
            except asyncio.CancelledError as error:
                if flight.abandoned:
                    raise
                raise EvaluationCancelled("the evaluation was cancelled") from error
            finally:
                self._forget(flights, key, flight)

        flights[key] = flight
        flight.task = loop.create_task(fly())
        flight.task.add_done_callback(flight.over)
        return flight

    @staticmethod
    def _forget(flights: dict[str, Flight[Result]], key: str, flight: Flight[Result]) -> None:
        if flights.get(key) is flight:
            del flights[key]

    def detach(self, key: str) -> None:
        """Makes sure that what is under way for ``key`` can't be joined from now on. Waiting callers still get it."""
        for flights in list(self._by_loop.values()):
            flights.pop(key, None)

    def cancel_here(self) -> None:
        """Cancels everything that is under way in the running loop."""
        for flight in list(self._by_loop.get(asyncio.get_running_loop(), {}).values()):
            flight.task.cancel()


def _mark_as_retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
