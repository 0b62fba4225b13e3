"""What importing the package does not do."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


def test_importing_starts_no_thread_and_imports_nothing_that_takes_long(run_python: Callable[..., str]) -> None:
    run_python("""
import sys, threading

before = set(sys.modules)
import sark_cache

imported = set(sys.modules) - before
slow = {"asyncio", "dataclasses", "inspect", "logging", "multiprocessing", "concurrent.futures"}
slow |= {"sark_cache.bench", "sark_cache.policy"}
assert not imported & slow, imported & slow
assert threading.active_count() == 1
""")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_neither_importing_nor_constructing_starts_a_native_thread(run_python: Callable[..., str]) -> None:
    run_python("""
import os
from sark_cache import Cache, RustCache

caches = Cache(10**6, ttl=60), RustCache(10**6, 60)
assert len(os.listdir("/proc/self/task")) == 1
""")


def test_everything_that_is_announced_is_there(run_python: Callable[..., str]) -> None:
    import sark_cache

    for name in sark_cache.__all__:
        assert getattr(sark_cache, name) is not None
        assert getattr(sark_cache, name).__doc__


def test_the_version_is_that_of_the_distribution(run_python: Callable[..., str]) -> None:
    run_python("""
import sys
import sark_cache

assert "importlib.metadata" not in sys.modules
from importlib.metadata import version

assert sark_cache.__version__ == version("sark-cache")
try:
    sark_cache.unheard_of
except AttributeError as error:
    assert "unheard_of" in str(error)
else:
    raise AssertionError("it is there")
""")
