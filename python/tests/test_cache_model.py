"""`Cache`, compared with an OrderedDict with deadlines: the same answers, order and events for any operations.

The test controls the clock. Keys are equal without being identical, or share one hash, and entries expire
between operations.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sark_cache import Cache


class Word:
    """A user's key that ignores case, and hashes like all others."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Word) and self.text.lower() == other.text.lower()

    def __hash__(self) -> int:
        return 1


@dataclass(frozen=True)
class Point:
    """A user's key whose methods Python generates."""

    x: float
    y: float


NAN = float("nan")

MAKERS: list[Callable[[], Hashable]] = [
    lambda: 1,
    lambda: 1.0,
    lambda: True,
    lambda: 0,
    lambda: -0.0,
    lambda: False,
    # These two have the same hash.
    lambda: -1,
    lambda: -2,
    lambda: 2**70,
    lambda: float(2**70),
    lambda: "1",
    lambda: "".join(["a", "b"]),
    lambda: b"ab",
    lambda: None,
    lambda: (1, "ab"),
    lambda: (True, "".join(["a", "b"])),
    lambda: ((1.0, None), (0,)),
    lambda: ((1, None), (-0.0,)),
    lambda: (1, Word("x")),
    lambda: (True, Word("X")),
    # Equal only to itself, also inside a tuple.
    lambda: NAN,
    lambda: (NAN,),
    lambda: frozenset({1, "a"}),
    lambda: Word("x"),
    lambda: Word("X"),
    lambda: Word("y"),
    lambda: Point(1, 2),
    lambda: Point(1.0, 2.0),
]
keys = st.sampled_from(MAKERS).map(lambda make: make())
values = st.integers(-5, 5) | st.builds(list)
ttls = st.sampled_from([None, None, 0, 0.5, 1, 2.5, 7, 1e300, math.inf])
MISSING = object()


@dataclass
class Entry:
    value: Any
    dies: float
    used: float


class Model:
    """The naive cache: an OrderedDict, least recently used first, that drops expired entries at each operation."""

    def __init__(self, maxsize: int, ttl: float | None, tti: float | None, clock: Clock) -> None:
        self.maxsize, self.ttl, self.tti, self.clock = maxsize, ttl, tti, clock
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self.left: Counter[tuple[str, str]] = Counter()
        """What an eviction listener was told, as (value, cause)."""

    def live(self) -> OrderedDict[Hashable, Entry]:
        now = self.clock.now
        for key, entry in list(self.entries.items()):
            if now >= entry.dies or (self.tti is not None and now >= entry.used + self.tti):
                self.leave(key, "expired")
        return self.entries

    def leave(self, key: Hashable, cause: str) -> Entry:
        entry = self.entries.pop(key)
        self.left[repr(entry.value), cause] += 1
        return entry

    def use(self, key: Hashable) -> Entry | None:
        entry = self.live().get(key)
        if entry is not None:
            entry.used = self.clock.now
            self.entries.move_to_end(key)
        return entry

    def dies(self, ttl: float | None) -> float:
        ttl = self.ttl if ttl is None else ttl
        return math.inf if ttl is None else self.clock.now + ttl

    def set(self, key: Hashable, value: Any, ttl: float | None) -> None:
        live = self.live()
        old = live.pop(key, None)
        if old is not None:
            self.left[repr(old.value), "replaced"] += 1
        if ttl == 0:
            return
        while len(live) >= self.maxsize:
            self.leave(next(iter(live)), "size")
        live[key] = Entry(value, self.dies(ttl), self.clock.now)


class CacheIsAnOrderedDictWithDeadlines(RuleBasedStateMachine):
    @initialize(
        maxsize=st.integers(1, 8),
        ttl=st.sampled_from([None, 3, 10.5]),
        tti=st.sampled_from([None, None, 2, 4.5]),
    )
    def an_empty_cache(self, maxsize: int, ttl: float | None, tti: float | None) -> None:
        self.clock = Clock()
        self.left: Counter[tuple[str, str]] = Counter()
        self.model = Model(maxsize, ttl, tti, self.clock)
        self.cache: Cache[Any, Any] = Cache(maxsize, ttl=ttl, tti=tti, timer=self.clock, on_evict=self.on_evict)

    def on_evict(self, key: Hashable, value: object, cause: str) -> None:
        self.left[repr(value), cause] += 1

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 2, 5, 1000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(key=keys, value=values, ttl=ttls)
    def set(self, key: Hashable, value: Any, ttl: float | None) -> None:
        self.cache.set(key, value, ttl=ttl)
        self.model.set(key, value, ttl)

    @rule(key=keys, value=values)
    def set_item(self, key: Hashable, value: Any) -> None:
        self.cache[key] = value
        self.model.set(key, value, None)

    @rule(pairs=st.lists(st.tuples(keys, values), max_size=10), ttl=ttls)
    def set_many(self, pairs: list[tuple[Hashable, Any]], ttl: float | None) -> None:
        self.cache.set_many(dict(pairs), ttl=ttl)
        for key, value in dict(pairs).items():
            self.model.set(key, value, ttl)

    @rule(key=keys)
    def get(self, key: Hashable) -> None:
        expected = self.model.use(key)
        assert self.cache.get(key, MISSING) is (MISSING if expected is None else expected.value)

    @rule(key=keys)
    def get_item(self, key: Hashable) -> None:
        expected = self.model.use(key)
        if expected is None:
            with pytest.raises(KeyError) as error:
                self.cache[key]
            assert error.value.args == (key,)
        else:
            assert self.cache[key] is expected.value

    @rule(asked=st.lists(keys, max_size=10))
    def get_many(self, asked: list[Hashable]) -> None:
        answers = self.cache.get_many(asked, MISSING)
        for key, answer in zip(asked, answers, strict=True):
            expected = self.model.use(key)
            assert answer is (MISSING if expected is None else expected.value)

    @rule(key=keys)
    def look_without_a_trace(self, key: Hashable) -> None:
        expected = self.model.live().get(key)
        assert (key in self.cache) == (expected is not None)
        assert self.cache.peek(key, MISSING) is (MISSING if expected is None else expected.value)
        left = self.cache.expires_in(key)
        if expected is None:
            assert left is None
        else:
            idle = math.inf if self.model.tti is None else expected.used + self.model.tti
            until = min(expected.dies, idle) - self.clock.now
            # A time longer than the engine counts, some hundred years, may be reported as that limit.
            assert left == (until if until < 1e9 else pytest.approx(left)) and (until < 1e9 or left > 1e9)

    @rule(key=keys, value=values, ttl=ttls)
    def setdefault(self, key: Hashable, value: Any, ttl: float | None) -> None:
        expected = self.model.use(key)
        if expected is None:
            self.model.set(key, value, ttl)
        assert self.cache.setdefault(key, value, ttl=ttl) is (value if expected is None else expected.value)

    @rule(key=keys, value=values, ttl=ttls)
    def get_or_set(self, key: Hashable, value: Any, ttl: float | None) -> None:
        made = []

        def factory() -> Any:
            made.append(value)
            return value

        expected = self.model.use(key)
        answer = self.cache.get_or_set(key, factory, ttl=ttl)
        assert bool(made) == (expected is None)
        if expected is None:
            self.model.set(key, value, ttl)
        assert answer is (value if expected is None else expected.value)

    @rule(key=keys, delta=st.integers(-3, 3), default=st.integers(-3, 3), ttl=ttls)
    def incr(self, key: Hashable, delta: int, default: int, ttl: float | None) -> None:
        expected = self.model.use(key)
        if expected is not None and isinstance(expected.value, list):
            with pytest.raises(TypeError):
                self.cache.incr(key, delta, default=default, ttl=ttl)
            return
        answer = self.cache.incr(key, delta, default=default, ttl=ttl)
        if expected is None:
            assert answer == default + delta
            self.model.set(key, answer, ttl)
        else:
            assert answer == expected.value + delta
            expected.value = answer

    @rule(key=keys)
    def pop(self, key: Hashable) -> None:
        if key in self.model.live():
            assert self.cache.pop(key) is self.model.leave(key, "explicit").value
        else:
            with pytest.raises(KeyError):
                self.cache.pop(key)
            assert self.cache.pop(key, MISSING) is MISSING

    @rule(key=keys)
    def delete_item(self, key: Hashable) -> None:
        if key in self.model.live():
            self.model.leave(key, "explicit")
            del self.cache[key]
        else:
            with pytest.raises(KeyError):
                del self.cache[key]

    @rule(asked=st.lists(keys, max_size=5))
    def delete_many(self, asked: list[Hashable]) -> None:
        there = 0
        for key in asked:
            if key in self.model.live():
                self.model.leave(key, "explicit")
                there += 1
        assert self.cache.delete_many(asked) == there

    @rule()
    def popitem(self) -> None:
        live = self.model.live()
        if not live:
            with pytest.raises(KeyError):
                self.cache.popitem()
            return
        key = next(iter(live))
        entry = self.model.leave(key, "explicit")
        popped, value = self.cache.popitem()
        assert popped is key or popped == key
        assert value is entry.value

    @rule(key=keys, ttl=ttls)
    def touch(self, key: Hashable, ttl: float | None) -> None:
        entry = self.model.live().get(key)
        assert self.cache.touch(key, ttl) == (entry is not None)
        if entry is not None:
            entry.dies = self.model.dies(ttl)

    @rule(maxsize=st.integers(1, 8))
    def resize(self, maxsize: int) -> None:
        self.cache.resize(maxsize)
        self.model.maxsize = maxsize
        live = self.model.live()
        while len(live) > maxsize:
            self.model.leave(next(iter(live)), "size")
        assert self.cache.maxsize == maxsize

    @rule()
    def clear(self) -> None:
        self.cache.expire()
        self.cache.clear()
        for key in list(self.model.live()):
            self.model.leave(key, "explicit")

    @rule()
    def reclaim(self) -> None:
        self.cache.expire()
        self.model.live()
        assert self.cache.expire() == 0
        assert len(self.cache) == self.cache.currsize == len(self.model.entries)
        assert self.left == self.model.left

    @rule()
    def views(self) -> None:
        live = self.model.live()
        assert list(self.cache.keys()) == list(live)
        assert list(map(id, self.cache.values())) == [id(entry.value) for entry in live.values()]
        assert [(key, id(value)) for key, value in self.cache.items()] == [(k, id(e.value)) for k, e in live.items()]

    @invariant()
    def the_same_entries_are_there_in_the_same_order_of_use(self) -> None:
        """Iterating reclaims nothing, so the next operation still meets expired entries."""
        assert list(self.cache) == list(self.model.live())

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.reclaim()


TestCacheIsAnOrderedDictWithDeadlines = CacheIsAnOrderedDictWithDeadlines.TestCase
TestCacheIsAnOrderedDictWithDeadlines.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
