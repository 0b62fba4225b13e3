"""The keys: the same texts in the same order for every contestant, made before any clock starts.

A *repeated* key is the very object that was stored, with its hash known, like a constant or a long-lived
identifier in a program. A *fresh* key is equal but another object, whose hash is still to be computed, like a
key that comes out of a request.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

LENGTH = 65
"""Bytes of a key: as long as the key of a cached decision."""

CHUNK = 1000
"""How many keys are handed out at a time: few enough that fresh ones are still in the processor's cache when used."""


def texts(count: int, kind: str) -> list[str]:
    """Returns ``count`` distinct keys of ``LENGTH`` bytes each, in a random order that is the same each time.

    Another ``kind`` (one word) gives other keys.
    """
    made = [
        f"{kind}:user-{number:08}:action-{number % 7}:resource-{number * 7919:012}".ljust(LENGTH, "x")
        for number in range(count)
    ]
    random.Random(count).shuffle(made)
    return made


class Supply:
    """Hands out keys in chunks, round and round, each time from where it stopped the last time."""

    def __init__(self, keys: list[str], *, fresh: bool, start: int = 0) -> None:
        self._keys = keys
        self._fresh = fresh
        self._position = start

    def chunks(self, count: int) -> Iterator[list[str]]:
        """Yields ``count`` keys in chunks."""
        while count > 0:
            end = min(self._position + min(CHUNK, count), len(self._keys))
            chunk = self._keys[self._position : end]
            self._position = end % len(self._keys)
            count -= len(chunk)
            yield [key.encode().decode() for key in chunk] if self._fresh else chunk
