"""The cleanup task: runs at its interval, despite errors, until it is stopped, in whatever loop it was started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import AsyncMock, MagicMock, patch

import pytest

from policy.conftest import run
from sark_cache.policy import CacheCleanupTask, CleanupMetrics, RustPolicyCache, cache_cleanup


@pytest.fixture
def cleaned() -> MagicMock:
    cache = MagicMock()
    cache.cleanup_expired = AsyncMock(return_value=5)
    return cache


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_it_cleans_up_at_its_interval_and_again_after_errors(cleaned: MagicMock) -> None:
    cleaned.cleanup_expired.side_effect = [Exception("first"), 3, 4, *[0] * 1000]

    async def scenario() -> None:
        task = CacheCleanupTask(cleaned, interval=0.005)
        assert task.running is False and task._task is None
        await task.start()
        assert task.running is True and await task.health_check() is True
        await until(lambda: task.metrics.cleanups_run >= 3)
        await task.stop()
        assert task.running is False
        assert (task.metrics.errors, task.metrics.total_entries_removed) == (1, 7)
        assert task.metrics.last_cleanup_duration_ms > 0

    run(scenario())


def test_it_reclaims_expired_decisions() -> None:
    cache = RustPolicyCache()

    async def scenario() -> None:
        await cache.set("u", "a", "r", {"allow": True}, ttl_seconds=0.01)
        task = CacheCleanupTask(cache, interval=0.005)
        await task.start()
        await until(lambda: task.metrics.total_entries_removed == 1)
        await task.stop()

    run(scenario())


def test_stopping_does_not_wait_for_the_interval_but_for_a_cleanup_that_is_running(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        idle = CacheCleanupTask(cleaned, interval=3600)
        await idle.start()
        await asyncio.wait_for(idle.stop(), 5)
        cleaned.cleanup_expired.assert_not_called()

        running, go_on, done = asyncio.Event(), asyncio.Event(), []

        async def slowly() -> int:
            running.set()
            await go_on.wait()
            done.append(True)
            return 1

        cleaned.cleanup_expired.side_effect = slowly
        busy = CacheCleanupTask(cleaned, interval=0.001)
        await busy.start()
        await running.wait()
        stopping = asyncio.create_task(busy.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        go_on.set()
        await stopping
        assert done == [True]

    run(scenario())


def test_a_cleanup_that_hangs_is_cancelled_when_waiting_for_it_times_out(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        task = CacheCleanupTask(cleaned, interval=100)
        await task.start()
        with patch("asyncio.wait_for", side_effect=asyncio.TimeoutError):
            await task.stop()
        assert task.running is False
        assert task._task is not None and task._task.cancelled()

    asyncio.run(scenario())


def test_the_loop_itself_waits_without_wait_for(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        task = CacheCleanupTask(cleaned, interval=0.001)
        with patch("asyncio.wait_for", side_effect=asyncio.TimeoutError):
            await task.start()
            await until(lambda: task.metrics.cleanups_run >= 2)
        await task.stop()

    asyncio.run(scenario())


def test_it_can_be_started_again_and_in_another_loop(cleaned: MagicMock) -> None:
    task = CacheCleanupTask(cleaned, interval=0.001)

    async def scenario(*, stop: bool) -> None:
        runs = task.metrics.cleanups_run
        await task.start()
        await task.start()
        await until(lambda: task.metrics.cleanups_run > runs)
        if stop:
            await task.stop()

    run(scenario(stop=True))
    run(scenario(stop=False))
    # That loop is gone, and the task with it.
    assert run(task.health_check()) is False
    run(scenario(stop=True))


def test_stopping_from_another_loop_does_not_hang(cleaned: MagicMock) -> None:
    task = CacheCleanupTask(cleaned, interval=3600)

    async def scenario() -> None:
        await task.start()
        await asyncio.to_thread(lambda: asyncio.run(task.stop()))
        assert task._task is not None
        await asyncio.wait_for(task._task, 10)

    run(scenario())


def test_health(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        assert await CacheCleanupTask(cleaned, enabled=False).health_check() is True
        task = CacheCleanupTask(cleaned)
        assert await task.health_check() is False
        await task.start()
        assert task._task is not None
        task._task.cancel()
        await until(task._task.done)
        assert await task.health_check() is False
        await task.stop()

    run(scenario())


def test_a_disabled_task_does_not_start_and_stopping_what_does_not_run_is_fine(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        task = CacheCleanupTask(cleaned, enabled=False)
        await task.start()
        assert task.running is False and task._task is None
        await task.stop()

    run(scenario())


def test_three_triggers_are_three_runs(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        task = CacheCleanupTask(cleaned, interval=1.0)
        assert await asyncio.gather(*(task.trigger_cleanup() for _ in range(3))) == [5, 5, 5]
        assert task.metrics.cleanups_run == 3
        assert task.get_metrics()["avg_entries_per_cleanup"] == 5.0
        cleaned.cleanup_expired.side_effect = Exception("no")
        assert await task.trigger_cleanup() == 0
        assert task.metrics.errors == 1
        task.reset_metrics()
        assert task.metrics == CleanupMetrics()

    run(scenario())


def test_metrics_are_rounded_to_two_places() -> None:
    metrics = CleanupMetrics(
        cleanups_run=3, total_entries_removed=25, last_cleanup_removed=3, last_cleanup_duration_ms=1.234, errors=1
    )
    assert metrics.to_dict() == {
        "cleanups_run": 3, "total_entries_removed": 25, "last_cleanup_removed": 3,
        "last_cleanup_duration_ms": 1.23, "avg_entries_per_cleanup": 8.33, "errors": 1,
    }  # fmt: skip
    assert CleanupMetrics().avg_entries_per_cleanup == 0.0


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_an_interval_that_is_no_time_is_refused(cleaned: MagicMock, interval: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        CacheCleanupTask(cleaned, interval=interval)


def test_a_process_has_one_task(cleaned: MagicMock) -> None:
    async def scenario() -> None:
        assert cache_cleanup.get_cleanup_task() is None
        task = await cache_cleanup.start_cache_cleanup(cleaned, interval=60)
        assert task.running and cache_cleanup._cleanup_task is task is cache_cleanup.get_cleanup_task()
        assert await cache_cleanup.start_cache_cleanup(cleaned) is task
        await cache_cleanup.stop_cache_cleanup()
        assert cache_cleanup._cleanup_task is None
        await cache_cleanup.stop_cache_cleanup()

    run(scenario())


def test_a_task_whose_loop_ended_is_replaced(cleaned: MagicMock) -> None:
    async def started() -> CacheCleanupTask:
        return await cache_cleanup.start_cache_cleanup(cleaned)

    first = run(started())

    async def scenario() -> None:
        second = await started()
        assert second is not first and await second.health_check()
        await cache_cleanup.stop_cache_cleanup()

    run(scenario())
