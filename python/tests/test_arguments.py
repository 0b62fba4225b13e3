"""Errors in arguments are reported in full: which argument, what it was, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sark_cache import Cache, RustCache

LIFETIME = "must be a number of seconds of at least 1e-09, for time is counted in nanoseconds, or None, not"
SIZE = "the size that getsizeof returns"

REFUSED: dict[str, tuple[Callable[[Any, Any], object], type[Exception], str]] = {
    "set of strings, key": (lambda c, r: r.set(5, "a"), TypeError, "key must be a str, not int"),
    "set of strings, value": (lambda c, r: r.set("a", 5), TypeError, "value must be a str, not int"),
    "get of strings": (lambda c, r: r.get(5), TypeError, "key must be a str, not int"),
    "delete of strings": (lambda c, r: r.delete(5), TypeError, "key must be a str, not int"),
    "get_with_ttl": (lambda c, r: r.get_with_ttl(5), TypeError, "key must be a str, not int"),
    "in of strings": (lambda c, r: 5 in r, TypeError, "key must be a str, not int"),
    "get_many of strings": (lambda c, r: r.get_many(["a", 1]), TypeError, "each of keys must be a str, not int"),
    "get_many of no strings": (lambda c, r: r.get_many(5), TypeError, "keys must be an iterable of str, not int"),
    "delete_many of strings": (lambda c, r: r.delete_many([1]), TypeError, "each of keys must be a str, not int"),
    "set_many, value": (lambda c, r: r.set_many({"a": 1}), TypeError, "each value of mapping must be a str, not int"),
    "set_many, key": (lambda c, r: r.set_many({1: "a"}), TypeError, "each key of mapping must be a str, not int"),
    "set_many of pairs": (
        lambda c, r: r.set_many([("a", "b")]),
        TypeError,
        "mapping must be a mapping from str to str, not list",
    ),
    "get_many": (lambda c, r: c.get_many(5), TypeError, "keys must be an iterable of keys, not int"),
    "delete_many": (lambda c, r: c.delete_many(5), TypeError, "keys must be an iterable of keys, not int"),
    "get_or_set": (lambda c, r: c.get_or_set("a", 5), TypeError, "factory must be callable, not int"),
    "get_or_set, a hit": (lambda c, r: c.get_or_set("there", 5), TypeError, "factory must be callable, not int"),
    "ttl of a cache": (lambda c, r: Cache(10, ttl=-1), ValueError, f"ttl {LIFETIME} -1"),
    "no ttl of a cache": (lambda c, r: Cache(10, ttl=0), ValueError, f"ttl {LIFETIME} 0"),
    "ttl that is too short": (lambda c, r: Cache(10, ttl=1e-12), ValueError, f"ttl {LIFETIME} 1e-12"),
    "tti that is no number": (lambda c, r: Cache(10, tti=math.nan), ValueError, f"tti {LIFETIME} nan"),
    "ttl of an entry": (
        lambda c, r: c.set("a", 1, ttl=-1),
        ValueError,
        "ttl must be a number of seconds, 0 or more, not -1",
    ),
    "getsizeof, too much": (
        lambda c, r: Cache(5, getsizeof=lambda value: 2**70).set(1, 2),
        OverflowError,
        f"{SIZE} must be at most 4294967295, not 1180591620717411303424",
    ),
    "getsizeof, too little": (
        lambda c, r: Cache(5, getsizeof=lambda value: -1).set(1, 2),
        ValueError,
        f"{SIZE} must not be negative, not -1",
    ),
    "timer, text": (
        lambda c, r: Cache(5, ttl=5, timer=lambda: "x").set(1, 2),  # type: ignore[arg-type, return-value]
        TypeError,
        "timer must return a number of seconds, not 'x'",
    ),
    "timer, nan": (
        lambda c, r: Cache(5, ttl=5, timer=lambda: math.nan).set(1, 2),
        ValueError,
        "timer must return a number of seconds, not nan",
    ),
    "timer, too late": (
        lambda c, r: Cache(5, ttl=5, timer=lambda: 10**309).set(1, 2),
        OverflowError,
        f"timer must return what fits into a float, not {10**309}",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_says_it_all(call: Callable[[Any, Any], object], error: type[Exception], message: str) -> None:
    cache: Cache[Any, Any] = Cache(10)
    cache["there"] = 1
    strings = RustCache(10, 60)
    with pytest.raises(error) as raised:
        call(cache, strings)
    assert str(raised.value) == message
    assert (dict(cache), strings.size()) == ({"there": 1}, 0)


def test_an_error_of_the_iterable_itself_is_left_alone() -> None:
    def failing() -> Iterator[str]:
        yield "key"
        raise TypeError("of its own")

    cache, strings = Cache[str, str](10), RustCache(10, 60)
    for call in (cache.get_many, cache.delete_many, strings.get_many, strings.delete_many):
        with pytest.raises(TypeError, match="of its own"):
            call(failing())
