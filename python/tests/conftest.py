"""What several tests share: a clock that they control, programs in their own process, and waiting for a condition.

Nothing here knows how the cache is built.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only with SARK_SLOW=1, as `make deep` does")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("SARK_SLOW"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: SARK_SLOW=1 runs it"))


class Clock:
    """A timer that stands still until it is moved. Pass it as ``timer=``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs a program in a fresh interpreter, which must end successfully and without output on standard error."""

    def run(program: str, *arguments: str, timeout: float = 60) -> str:
        finished = subprocess.run(
            [sys.executable, "-X", "dev", "-c", textwrap.dedent(program), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return finished.stdout

    return run


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until the condition holds. Fails if it doesn't hold within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
