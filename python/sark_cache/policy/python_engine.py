"""An LRU + TTL cache of strings in plain Python with the methods of ``RustCache``, for when that is missing.

It gives the same guarantees with a slower engine: exact LRU order, a hard bound, and nothing served at or
after its deadline. It may be used by several threads, and starts none.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from sark_cache.policy.lifetimes import checked_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class _Entry(NamedTuple):
    value: str
    deadline: float
    ttl: float
    number: int
    """Distinguishes this entry from older ones of the same key in the heap of deadlines."""


class PythonCache:
    """A bounded cache of strings, with LRU eviction and a time-to-live for each entry.

    Entries are kept for ``ttl_secs`` seconds unless ``set`` says otherwise. Operations are O(1), plus O(log
    n) for the deadline of an insertion.

    >>> cache = PythonCache(1000, 300)
    >>> cache.set("user:1", "allow")
    >>> cache.get("user:1")
    'allow'

    Args:
        max_size: The most entries, at least 1.
        ttl_secs: Seconds, more than 0.
        timer: Returns the time in seconds; for tests.
    """

    def __init__(self, max_size: int, ttl_secs: float, *, timer: Callable[[], float] = monotonic) -> None:
        if isinstance(max_size, bool) or not isinstance(max_size, int):
            raise TypeError(f"max_size must be an int, not {type(max_size).__name__}")
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1, not {max_size}")
        self._max_size = max_size
        self._ttl = checked_seconds("ttl_secs", ttl_secs, zero=False)
        self._timer = timer
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # May hold deadlines of entries that are gone, which are recognised by their number.
        self._deadlines: list[tuple[float, int, str]] = []
        self._number = 0
        self._expired = 0
        self._told = 0
        self._evicted = 0
        self._lock = RLock()

    @property
    def evicted(self) -> int:
        """The number of entries evicted to make room so far."""
        return self._evicted

    def get(self, key: str) -> str | None:
        """Returns the value of ``key``, or None. A hit makes it the most recently used."""
        found = self.get_with_ttl(key)
        return None if found is None else found[0]

    def get_with_ttl(self, key: str) -> tuple[str, float, float] | None:
        """Returns ``(value, seconds left, seconds it was stored for)``, or None. Counts as a use."""
        _checked_text("key", key)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            remaining = entry.deadline - self._timer()
            if remaining <= 0:
                del self._entries[key]
                self._expired += 1
                return None
            self._entries.move_to_end(key)
            return entry.value, remaining, entry.ttl

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Stores ``value`` for ``ttl`` seconds, or for the cache's own time.

        0: don't store, and forget an older value.
        """
        _checked_text("key", key)
        _checked_text("value", value)
        ttl = self._ttl if ttl is None else checked_seconds("ttl", ttl, zero=True)
        with self._lock:
            self._entries.pop(key, None)
            if ttl == 0:
                return
            while len(self._entries) >= self._max_size:
                self._make_room()
            self._number += 1
            deadline = self._timer() + ttl
            self._entries[key] = _Entry(value, deadline, ttl, self._number)
            heappush(self._deadlines, (deadline, self._number, key))
            if len(self._deadlines) > 2 * self._max_size + 64:
                # Deadlines of replaced entries would pile up, so only those of live entries are kept.
                self._deadlines = [(entry.deadline, entry.number, key) for key, entry in self._entries.items()]
                heapify(self._deadlines)

    def _make_room(self) -> None:
        """Removes entries that are due or, if there are none, the least recently used one."""
        if not self._reclaim():
            self._entries.popitem(last=False)
            self._evicted += 1

    def _reclaim(self) -> int:
        now, reclaimed = self._timer(), 0
        while self._deadlines and self._deadlines[0][0] <= now:
            _deadline, number, key = heappop(self._deadlines)
            entry = self._entries.get(key)
            if entry is not None and entry.number == number:
                del self._entries[key]
                reclaimed += 1
        self._expired += reclaimed
        return reclaimed

    def delete(self, key: str) -> bool:
        """Removes ``key``, and returns whether it was there and alive."""
        _checked_text("key", key)
        with self._lock:
            entry = self._entries.pop(key, None)
            return entry is not None and entry.deadline > self._timer()

    def clear(self) -> None:
        """Removes everything."""
        with self._lock:
            self._entries.clear()
            self._deadlines.clear()

    def start_anew(self) -> None:
        """Does what ``clear`` does, in a forked child, where a thread of the parent may have held the lock."""
        self._lock = RLock()
        self._entries = OrderedDict()
        self._deadlines = []

    def size(self) -> int:
        """Returns the number of live entries, after reclaiming everything due."""
        with self._lock:
            self._reclaim()
            return len(self._entries)

    def cleanup_expired(self) -> int:
        """Reclaims everything due, and returns how many entries expired since the last call.

        Entries count regardless of which call reclaimed them.
        """
        with self._lock:
            self._reclaim()
            told, self._told = self._told, self._expired
            return self._expired - told

    def get_many(self, keys: Iterable[str]) -> list[str | None]:
        """Returns the values of ``keys`` in their order, with None where there is none."""
        return [self.get(key) for key in keys]

    def set_many(self, mapping: Mapping[str, str], ttl: float | None = None) -> None:
        """Stores every pair of ``mapping``, as ``set`` does one by one."""
        for key, value in mapping.items():
            self.set(key, value, ttl)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Removes ``keys``, and returns how many of them were there and alive."""
        return sum(self.delete(key) for key in keys)

    def __len__(self) -> int:
        return self.size()

    def __contains__(self, key: str) -> bool:
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and entry.deadline > self._timer()

    def __repr__(self) -> str:
        return f"PythonCache(size={self.size()})"


def _checked_text(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    # Raises the same UnicodeEncodeError for lone surrogates as the native cache.
    if not value.isascii():
        value.encode()
