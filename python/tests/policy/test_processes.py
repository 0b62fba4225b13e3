"""Forks, prefork servers and imports: what a process starts with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunPython = Callable[..., str]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")


@forks
@pytest.mark.parametrize("kind", ["RustPolicyCache", "PythonPolicyCache"])
def test_a_forked_child_starts_empty_and_can_start_its_own_cleanup(run_python: RunPython, kind: str) -> None:
    output = run_python(
        """
        import asyncio, os, sys
        import sark_cache.policy as policy

        cache = getattr(policy, sys.argv[1])()
        request = ("alice", "read", "doc:1")

        async def parent():
            await cache.set(*request, {"allow": True})
            await policy.start_cache_cleanup(cache, interval=3600)
            missed = await cache.lookup("bob", "read", "doc:1")
            # Under way when the process is forked.
            never = asyncio.Event()
            asked = asyncio.create_task(cache.get_or_evaluate("eve", "read", "doc:1", evaluate=never.wait))
            await asyncio.sleep(0)
            child = os.fork()
            if child == 0:
                return missed
            assert os.waitpid(child, 0)[1] == 0, "the child failed"
            assert await cache.get(*request) == {"allow": True}
            asked.cancel()
            await policy.stop_cache_cleanup()
            print("parent")

        async def child(missed):
            assert await cache.size() == 0
            assert cache.metrics.total_requests == 0
            assert await cache.get(*request) is None
            assert await cache.set("bob", "read", "doc:1", {"allow": True}, token=missed.token) is False
            denial = {"allow": False}
            assert await cache.get_or_evaluate("eve", "read", "doc:1", evaluate=lambda: denial) == denial
            task = await policy.start_cache_cleanup(cache, interval=0.001)
            assert await task.health_check()
            while task.metrics.cleanups_run == 0:
                await asyncio.sleep(0.001)
            await policy.stop_cache_cleanup()
            print("child", flush=True)
            os._exit(0)

        loop = asyncio.new_event_loop()
        # Waiting for the child blocks the loop, and is meant to.
        loop.slow_callback_duration = 60
        missed = loop.run_until_complete(parent())
        if missed is not None:
            asyncio.set_event_loop(None)
            asyncio._set_running_loop(None)
            asyncio.run(child(missed))
        loop.close()
        """,
        kind,
    )
    assert output.split() == ["child", "parent"]


@forks
def test_a_fork_does_not_wait_for_a_lock_that_a_thread_of_the_parent_holds(run_python: RunPython) -> None:
    run_python(
        """
        import asyncio, os, threading, warnings
        from sark_cache.policy import PythonPolicyCache

        # Newer Pythons warn of forking with threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        cache = PythonPolicyCache()
        held, go_on = threading.Event(), threading.Event()

        def hold():
            with cache.cache._lock, cache._generations._lock:
                held.set()
                go_on.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(20)
        child = os.fork()
        if child == 0:
            asyncio.run(cache.set("u", "a", "r", {"allow": True}))
            asyncio.run(cache.invalidate("u"))
            os._exit(0 if asyncio.run(cache.get("u", "a", "r")) is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        go_on.set()
        thread.join()
        """
    )


def test_importing_starts_no_thread_and_needs_neither_asyncio_nor_anything_to_be_installed(
    run_python: RunPython,
) -> None:
    output = run_python(
        """
        import sys, threading
        import sark_cache.policy
        cache = sark_cache.policy.create_policy_cache()
        asking = cache.get("u", "a", "r")
        try:
            asking.send(None)
        except StopIteration as finished:
            assert finished.value is None
        slow = ("asyncio", "redis", "valkey", "prometheus_client", "structlog", "orjson")
        print([name for name in slow if name in sys.modules])
        print(threading.active_count())
        """
    )
    assert output.split("\n")[:2] == ["[]", "1"]


HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "sark_cache._core":
            raise ImportError("hidden")

sys.meta_path.insert(0, Hidden())
"""


def test_without_the_extension_plain_python_answers_and_says_so_once(run_python: RunPython) -> None:
    output = run_python(
        HIDDEN
        + """
import asyncio, logging, warnings
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
import sark_cache.policy as policy
from sark_cache.policy import rust_cache

assert policy.is_rust_cache_available() is False
assert rust_cache.RustCache is None
try:
    policy.get_rust_policy_cache()
except RuntimeError as error:
    assert "Rust cache extensions not available" in str(error)
else:
    raise AssertionError("it must raise")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cache = policy.create_policy_cache(max_size=10)
    policy.create_policy_cache(max_size=11)
assert [warning.category for warning in caught] == [ImportWarning]
assert cache.backend == "python"

async def scenario():
    assert await cache.get_or_evaluate("u", "a", "r", evaluate=lambda: {"allow": True}) == {"allow": True}
    assert await cache.get("u", "a", "r") == {"allow": True}
    await cache.invalidate("u")
    assert await cache.get("u", "a", "r") is None

asyncio.run(scenario())
"""
    )
    assert output.count("an engine in plain Python") == 2


def test_without_the_extension_the_tests_of_decisions_pass_in_plain_python() -> None:
    files = [
        str(Path(__file__).with_name(name)) for name in ("test_decisions.py", "test_in_flight.py", "test_evaluation.py")
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env={**os.environ, "SARK_HIDE_EXTENSION": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stdout
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed is not None and int(passed[1]) > 100, finished.stdout


def test_without_the_extension_the_native_caches_say_what_is_missing(run_python: RunPython) -> None:
    run_python(
        HIDDEN
        + """
import sark_cache
for name in sark_cache.__all__:
    try:
        getattr(sark_cache, name)
    except ImportError as error:
        assert name in str(error) and "hidden" in str(error)
    else:
        raise AssertionError(name)
assert not hasattr(sark_cache, "unheard_of")
"""
    )
