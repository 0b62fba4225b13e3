"""Who else is at work in this process while something is measured: nobody, or a thread that never rests.

With a GIL whoever lets go of it for a moment gets it back only when such a thread is made to give it up, which is after
milliseconds. So it tells calls that hold the GIL throughout from those that don't. This room measures nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nobody() -> Iterator[None]:
    """Quiet."""
    yield


@contextmanager
def busy_thread() -> Iterator[None]:
    """A thread of Python code that never waits for anything."""
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
