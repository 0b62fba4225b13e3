"""The mapping features of a cache that need no speed: views, equality, and its state for copies and pickles.

The native class calls these functions. All of them work on a list of what was there at one moment, so
changing the cache while iterating over a view does no harm.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from sark_cache._core import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

_ABSENT = object()


class CacheKeys(KeysView["K"]):
    """The keys of a cache, least recently used first."""

    __slots__ = ()


class CacheValues(ValuesView["V"]):
    """The values of a cache, in the order of the keys."""

    __slots__ = ()
    _mapping: Cache[Any, V]

    def __iter__(self) -> Iterator[V]:
        return iter([value for _, value, _ in self._mapping._entries()])

    def __contains__(self, value: object) -> bool:
        return any(other is value or other == value for other in self)


class CacheItems(ItemsView["K", "V"]):
    """The pairs of a cache, in the order of the keys."""

    __slots__ = ()
    _mapping: Cache[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter([(key, value) for key, value, _ in self._mapping._entries()])

    def __contains__(self, item: object) -> bool:
        if not (isinstance(item, tuple) and len(item) == 2):
            return False
        key, value = item
        found: object = self._mapping.peek(key, _ABSENT)
        return found is not _ABSENT and (found is value or found == value)


def equal(cache: Cache[Any, Any], other: object) -> object:
    """Returns whether two mappings have the same pairs, as ``__eq__`` does."""
    if not isinstance(other, Mapping):
        return NotImplemented
    return dict(cache.items()) == dict(other.items())


def get_state(cache: Cache[Any, Any]) -> tuple[dict[str, Any], list[tuple[Any, Any, float | None]], dict[str, Any]]:
    """Returns all that a copy consists of: settings, entries, and the attributes of a subclass's instance."""
    return cache._settings(), cache._entries(), dict(getattr(cache, "__dict__", ()))


def set_state(
    cache: Cache[Any, Any],
    state: tuple[dict[str, Any], list[tuple[Any, Any, float | None]], dict[str, Any]],
) -> None:
    """Turns an instance whose ``__init__`` was not called into the copy."""
    settings, entries, attributes = state
    Cache.__init__(cache, **settings)
    for key, value, left in entries:
        # An entry that never expires keeps doing so, even if the settings have a time-to-live.
        Cache.set(cache, key, value, float("inf") if left is None else left)
    if attributes:
        cache.__dict__.update(attributes)
