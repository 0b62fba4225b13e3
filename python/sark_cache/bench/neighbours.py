"""What else runs in this process while something is measured: nothing, or a thread that never rests.

With a GIL, a thread that releases it for a moment gets it back only when such a busy thread is forced to
release it, which takes milliseconds. This distinguishes calls that hold the GIL throughout from those that
don't. This module measures nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nobody() -> Iterator[None]:
    """Runs nothing else."""
    yield


@contextmanager
def busy_thread() -> Iterator[None]:
    """Runs a thread of Python code that never waits for anything."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            sum(range(1000))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
