"""Which keys are one key: `Cache` must agree with `dict`, whether the engine compares alone or asks Python."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import sys
import uuid
from collections import namedtuple
from collections.abc import Hashable
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sark_cache import Cache


class Colour(Enum):
    RED = 1


class Text(str):
    """A str with its own definition of equality."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and str.__eq__(self, other)

    __hash__ = str.__hash__


class Loud(str):
    """A str like any other, but of another type."""


Point = namedtuple("Point", "x y")

ATOMS = st.one_of(
    st.text(max_size=3),
    st.binary(max_size=3),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), 2**100, float(2**100), -(2**63), 10**400, math.inf, 0.0, -0.0]),
    st.decimals(allow_nan=False, places=1, min_value=-3, max_value=3),
    st.fractions(-3, 3, max_denominator=2),
    st.builds(Loud, st.text(max_size=2)),
    st.sampled_from([Colour.RED, 1 + 0j, "é", "e\u0301", "日本", "\U0001f600", "\ud800"]),
)
KEYS = st.recursive(
    ATOMS,
    lambda parts: st.one_of(
        st.tuples(parts), st.tuples(parts, parts), st.frozensets(parts, max_size=2), st.builds(Point, parts, parts)
    ),
    max_leaves=6,
)


@given(st.lists(KEYS, max_size=30))
def test_a_cache_tells_keys_apart_exactly_as_a_dict_does(keys: list[Hashable]) -> None:
    cache: Cache[Hashable, int] = Cache(1000)
    model: dict[Hashable, int] = {}
    for number, key in enumerate(keys):
        cache[key] = model[key] = number
    assert len(cache) == len(model)
    for key in keys:
        assert cache[key] == model[key]
    for key in keys:
        assert cache.pop(key, None) == model.pop(key, None)


@pytest.mark.parametrize(
    "equals",
    [
        (1, 1.0, True, 1 + 0j, fractions.Fraction(1), decimal.Decimal(1)),
        (0, 0.0, -0.0, False),
        (2**53, float(2**53)),
        (2**100, float(2**100)),
        ("key", "".join(["k", "ey"]), Loud("key")),
        (b"key", bytes(bytearray(b"key"))),
        ((1, ("a", 2.0)), (True, ("a", 2)), (1.0, (Loud("a"), decimal.Decimal(2)))),
        (Point(1, 2), (1, 2), (1.0, True + 1)),
        (frozenset({1, 2}), frozenset({2.0, True})),
        (uuid.UUID(int=7), uuid.UUID(int=7)),
        (datetime.date(2024, 1, 1), datetime.date(2024, 1, 1)),
    ],
)
def test_equal_keys_find_each_other(equals: tuple[Hashable, ...]) -> None:
    for first in equals:
        for second in equals:
            cache: Cache[Hashable, str] = Cache(10)
            cache[first] = "old"
            cache[second] = "new"
            assert (len(cache), cache[first], second in cache) == (1, "new", True)
            assert cache.get_many([first, second]) == ["new", "new"]
            assert type(next(iter(cache))) is type(first), "the key that came first stays"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", b"a"),
        ("1", 1),
        ("e\u0301", "é"),
        ((1,), 1),
        ((1, 2), (2, 1)),
        ((), None),
        (2**53 + 1, float(2**53)),
        (Text("a"), "a"),
        (hash("a"), "a"),
        ((1, 2), (1, 2, 3)),
    ],
)
def test_unequal_keys_stay_apart(one: Hashable, other: Hashable) -> None:
    cache: Cache[Hashable, str] = Cache(10)
    cache[one] = "one"
    assert other not in cache
    cache[other] = "other"
    assert (cache[one], cache[other], len(cache)) == ("one", "other", 2)


def test_a_nan_is_equal_to_itself_alone() -> None:
    cache: Cache[float, int] = Cache(10)
    nan = math.nan
    cache[nan] = 1
    assert cache[nan] == 1
    assert float("nan") not in cache
    assert cache.get_many([(nan,), nan], 0) == [0, 1]


def test_keys_that_share_a_hash_are_told_apart() -> None:
    class Collides:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            return hash("shared")

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Collides) and self.name == other.name

    cache: Cache[Any, Any] = Cache(1000)
    for number in range(100):
        cache[Collides(str(number))] = number
    cache["shared"] = "text"
    assert [cache[Collides(str(number))] for number in range(100)] == list(range(100))
    assert cache["shared"] == "text"
    assert len(cache) == 101
    for number in range(0, 100, 2):
        assert cache.pop(Collides(str(number))) == number
    assert Collides("0") not in cache and Collides("1") in cache


def test_small_integers_and_their_multiples_spread() -> None:
    # Python's hash of an int is the int, and shards index by 32 bits. Without mixing, these would all share
    # one place.
    cache: Cache[int, int] = Cache(20_000)
    for step in (1, 2**16, 2**32, 2**40):
        for number in range(5_000):
            cache[number * step] = number
        assert all(cache[number * step] == number for number in range(5_000))
        cache.clear()


def test_a_hit_is_one_hit_whoever_compares() -> None:
    class Key:
        def __hash__(self) -> int:
            return 5

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key)

    cache: Cache[Any, int] = Cache(10)
    cache[Key()] = 1
    assert cache[Key()] == 1
    assert cache.get_many([Key(), 5, Key()], 0) == [1, 0, 1]
    assert (cache.stats().hits, cache.stats().misses) == (3, 1)


def test_deeply_nested_tuples_are_compared_by_python_and_end_in_its_error() -> None:
    def nested(depth: int) -> Any:
        key: Any = "leaf"
        for _ in range(depth):
            key = (key,)
        return key

    cache: Cache[Any, int] = Cache(10)
    cache[nested(100)] = 1
    assert cache[nested(100)] == 1
    deep = sys.getrecursionlimit() * 100
    try:
        cache[nested(deep)] = 2
        cache.get(nested(deep))
    except RecursionError:
        pass
    assert cache[nested(100)] == 1
