"""`RustCache`, compared with an OrderedDict: the same answers and the same order of use for any operations.

Its clock can't be set, so entries here either last or aren't stored at all. `test_rust_cache` tests deadlines.
"""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sark_cache import RustCache

DAY = 86_400
keys = st.sampled_from([f"key {number}" for number in range(12)]) | st.text(max_size=3)
values = st.text(max_size=5)
ttls = st.sampled_from([None, 0, 0.0, DAY, float(DAY), 10**30])


class RustCacheIsAnOrderedDict(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 8))
    def an_empty_cache(self, size: int) -> None:
        self.max_size = size
        self.cache = RustCache(size, DAY)
        self.model: OrderedDict[str, str] = OrderedDict()
        self.evicted = 0

    def store(self, key: str, value: str, ttl: float | None) -> None:
        if ttl == 0:
            self.model.pop(key, None)
            return
        if key not in self.model and len(self.model) == self.max_size:
            self.model.popitem(last=False)
            self.evicted += 1
        self.model[key] = value
        self.model.move_to_end(key)

    def look_up(self, key: str) -> str | None:
        if key in self.model:
            self.model.move_to_end(key)
        return self.model.get(key)

    @rule(key=keys, value=values, ttl=ttls)
    def set(self, key: str, value: str, ttl: float | None) -> None:
        self.cache.set(key, value, ttl)
        self.store(key, value, ttl)

    @rule(pairs=st.dictionaries(keys, values, max_size=10), ttl=ttls)
    def set_many(self, pairs: dict[str, str], ttl: float | None) -> None:
        self.cache.set_many(pairs, ttl)
        for key, value in pairs.items():
            self.store(key, value, ttl)

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.cache.get(key) == self.look_up(key)

    @rule(key=keys)
    def get_with_ttl(self, key: str) -> None:
        found = self.cache.get_with_ttl(key)
        assert (found and found[0]) == self.look_up(key)

    @rule(asked=st.lists(keys, max_size=10))
    def get_many(self, asked: list[str]) -> None:
        assert self.cache.get_many(asked) == [self.look_up(key) for key in asked]

    @rule(key=keys)
    def contains(self, key: str) -> None:
        assert (key in self.cache) == (key in self.model)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.cache.delete(key) == (self.model.pop(key, None) is not None)

    @rule(asked=st.lists(keys, max_size=5))
    def delete_many(self, asked: list[str]) -> None:
        there = [key for key in asked if self.model.pop(key, None) is not None]
        assert self.cache.delete_many(asked) == len(there)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @rule()
    def cleanup_expired(self) -> None:
        assert self.cache.cleanup_expired() == 0

    @invariant()
    def it_holds_as_much_and_has_evicted_as_much(self) -> None:
        assert self.cache.size() == len(self.cache) == len(self.model)
        assert self.cache.stats().evicted == self.evicted


TestRustCacheIsAnOrderedDict = RustCacheIsAnOrderedDict.TestCase
TestRustCacheIsAnOrderedDict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
