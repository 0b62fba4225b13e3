"""A task that reclaims a cache's expired entries at an interval, so memory is freed while there are no calls.

Nothing depends on it for correctness: an expired decision isn't served, whether or not it was reclaimed. It
works with anything that has ``async cleanup_expired()``. asyncio is imported when a task is started.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sark_cache.policy import forks

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("sark_cache.policy.cleanup")

STOP_TIMEOUT = 5.0
"""How many seconds ``stop`` waits for a running cleanup before it cancels it."""


@dataclass
class CleanupMetrics:
    """What a cleanup task has done."""

    cleanups_run: int = 0
    total_entries_removed: int = 0
    last_cleanup_removed: int = 0
    last_cleanup_duration_ms: float = 0.0
    errors: int = 0

    @property
    def avg_entries_per_cleanup(self) -> float:
        """The number of entries removed per cleanup; 0 if there was none."""
        if self.cleanups_run == 0:
            return 0.0
        return self.total_entries_removed / self.cleanups_run

    def to_dict(self) -> dict[str, Any]:
        """Returns all metrics by name, rounded to 2 places."""
        return {
            "cleanups_run": self.cleanups_run,
            "total_entries_removed": self.total_entries_removed,
            "last_cleanup_removed": self.last_cleanup_removed,
            "last_cleanup_duration_ms": round(self.last_cleanup_duration_ms, 2),
            "avg_entries_per_cleanup": round(self.avg_entries_per_cleanup, 2),
            "errors": self.errors,
        }


class CacheCleanupTask:
    """Calls ``await cache.cleanup_expired()`` every ``interval`` seconds, from ``start()`` to ``stop()``.

    An error is counted and logged, and the task continues at its interval. In a forked child the task isn't
    running, and can be started.

    Args:
        cache: The cache to clean up.
        interval: Seconds, more than 0; may be a float.
        enabled: If False, ``start()`` does nothing.

    Raises:
        ValueError: if the interval isn't positive.
    """

    def __init__(self, cache: Any, interval: float = 60, enabled: bool = True) -> None:
        if not interval > 0:
            raise ValueError(f"interval must be a number of seconds, more than 0, not {interval!r}")
        self.cache = cache
        self.interval = interval
        self.enabled = enabled
        self.running = False
        self.metrics = CleanupMetrics()
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        forks.register(self)

    async def start(self) -> None:
        """Starts the task in the running loop, unless it is disabled or already running."""
        import asyncio

        if not self.enabled:
            _log.info("cache cleanup is disabled")
            return
        if self.running and self._is_alive():
            _log.debug("cache cleanup runs already")
            return
        self.running = True
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._clean_up_at_intervals(self._wake))

    async def stop(self) -> None:
        """Ends the task as soon as a running cleanup is done. After ``STOP_TIMEOUT`` the task is cancelled."""
        import asyncio

        task, wake = self._task, self._wake
        self.running = False
        if task is None or wake is None:
            return
        loop = task.get_loop()
        if loop is not asyncio.get_running_loop():
            # It belongs to another loop. If that loop still runs, tell it, and don't wait.
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake.set)
            return
        wake.set()
        try:
            await asyncio.wait_for(task, timeout=STOP_TIMEOUT)
        except asyncio.TimeoutError:
            _log.warning("cache cleanup is cancelled, since it took more than %s s to stop", STOP_TIMEOUT)
            task.cancel()
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # The task's own cancellation is what we wanted. A cancellation of this call is passed on.
            if not task.cancelled():
                raise

    def _is_alive(self) -> bool:
        return self._task is not None and not self._task.done() and not self._task.get_loop().is_closed()

    async def _clean_up_at_intervals(self, wake: asyncio.Event) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        while not wake.is_set() and self.running:
            timer = loop.call_later(self.interval, wake.set)
            try:
                await wake.wait()
            finally:
                timer.cancel()
            if not self.running:
                return
            wake.clear()
            await self._perform_cleanup()

    async def _perform_cleanup(self) -> int:
        """Performs one cleanup, counts it, and returns how many entries it removed. Never raises."""
        start = perf_counter()
        try:
            removed = int(await self.cache.cleanup_expired())
        except Exception as error:  # whatever a cache raises, the next cleanup is still due
            self.metrics.errors += 1
            _log.error("cache cleanup failed: %s: %s", type(error).__name__, error)
            return 0
        metrics = self.metrics
        metrics.cleanups_run += 1
        metrics.total_entries_removed += removed
        metrics.last_cleanup_removed = removed
        metrics.last_cleanup_duration_ms = (perf_counter() - start) * 1000
        _log.debug("cache cleanup removed %d entries in %.3f ms", removed, metrics.last_cleanup_duration_ms)
        return removed

    async def trigger_cleanup(self) -> int:
        """Cleans up now, regardless of the interval. Returns how many entries were removed."""
        return await self._perform_cleanup()

    def get_metrics(self) -> dict[str, Any]:
        """Returns the metrics by name."""
        return self.metrics.to_dict()

    def reset_metrics(self) -> None:
        """Sets the metrics to zero."""
        self.metrics = CleanupMetrics()

    async def health_check(self) -> bool:
        """Returns whether the task is as it should be: disabled, or running and not ended unexpectedly."""
        return not self.enabled or (self.running and self._is_alive())

    def _after_fork(self) -> None:
        # The task's loop doesn't run in this process.
        self.running = False
        self._task = self._wake = None


_cleanup_task: CacheCleanupTask | None = None


async def start_cache_cleanup(cache: Any, interval: float = 60, enabled: bool = True) -> CacheCleanupTask:
    """Starts the one cleanup task of this process and returns it. A task that was started before is left as it is.

    A task that isn't alive any more, because of a fork or because its loop ended, is replaced.
    """
    global _cleanup_task
    task = _cleanup_task
    if task is not None and (not task.enabled or await task.health_check()):
        _log.debug("cache cleanup was started already")
        return task
    _cleanup_task = CacheCleanupTask(cache, interval, enabled)
    await _cleanup_task.start()
    return _cleanup_task


async def stop_cache_cleanup() -> None:
    """Stops the one cleanup task of this process, if there is one."""
    global _cleanup_task
    task, _cleanup_task = _cleanup_task, None
    if task is not None:
        await task.stop()


def get_cleanup_task() -> CacheCleanupTask | None:
    """Returns the one cleanup task of this process, or None."""
    return _cleanup_task
