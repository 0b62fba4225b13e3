"""What type checkers must report about `@cached`. Checked by mypy --strict and pyright, and run as a test."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from typing_extensions import assert_type

from sark_cache import Cache, CacheInfo, cached


@cached(100, ttl=60)
def area(width: int, height: int = 1) -> int:
    """A function."""
    return width * height


assert_type(area(2, height=3), int)
assert_type(area.cache_info(), CacheInfo)
assert_type(area.cache_info().hits, int)
assert_type(area.cache_key(2), Hashable)
assert_type(area.cache_clear(), None)
assert_type(area.__wrapped__(2, 3), int)


@cached(100)
async def fetch(user: str) -> bytes:
    """A coroutine function."""
    return user.encode()


async def main() -> bytes:
    """Awaits cached results."""
    pending: Coroutine[Any, Any, bytes] = fetch("ada")
    assert_type(await pending, bytes)
    return await fetch("ada")


assert asyncio.run(main()) == b"ada"


class Shapes:
    """Has cached methods."""

    @cached(100)
    def method(self, size: int) -> str:
        """A method of an instance."""
        return "x" * size

    @staticmethod
    @cached(100)
    def static(size: int) -> int:
        """A static method."""
        return size


assert_type(Shapes().method(2), str)
assert_type(Shapes.static(2), int)
method: Callable[[int], str] = Shapes().method
assert_type(Shapes().method.cache_info().hits, int)
Shapes().method.cache_clear()

shared: Cache[Any, Any] = Cache(100)


@cached(shared, key=lambda text: text.lower(), typed=True)
def length(text: str) -> int:
    """Shares its cache with other functions."""
    return len(text)


callback: Callable[[str], int] = length
assert_type(callback("Text"), int)


def refused() -> None:
    """Never called: only type checkers read it."""
    area("2")  # type: ignore[arg-type]
    area(2, 3, 4)  # type: ignore[call-arg]
    Shapes().method("2")  # type: ignore[arg-type]
    cached("100")  # type: ignore[arg-type]
    Shapes.static("2")  # type: ignore[arg-type]
    area(2).upper()  # type: ignore[attr-defined]
