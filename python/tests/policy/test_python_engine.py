"""The engine in plain Python, compared with a model: exact LRU, exact deadlines, a hard bound."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from conftest import Clock
from sark_cache import RustCache
from sark_cache.policy.python_engine import PythonCache

keys = st.sampled_from([f"key:{number}" for number in range(8)])


class AgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = PythonCache(4, 10, timer=self.clock)
        # By key, least recently used first: value, deadline, lifetime.
        self.model: dict[str, tuple[str, float, float]] = {}
        self.expired = 0

    def forget_what_is_due(self) -> None:
        due = [key for key, (_value, deadline, _ttl) in self.model.items() if deadline <= self.clock()]
        for key in due:
            del self.model[key]
        self.expired += len(due)

    @rule(key=keys, value=st.text(max_size=3), ttl=st.sampled_from([None, 0, 1, 2.5, 100, math.inf]))
    def store(self, key: str, value: str, ttl: float | None) -> None:
        self.cache.set(key, value, ttl)
        self.forget_what_is_due()
        self.model.pop(key, None)
        if ttl == 0:
            return
        while len(self.model) >= 4:
            del self.model[next(iter(self.model))]
        lifetime = 10 if ttl is None else ttl
        self.model[key] = (value, self.clock() + lifetime, lifetime)

    @rule(key=keys)
    def look_up(self, key: str) -> None:
        self.forget_what_is_due()
        found = self.cache.get_with_ttl(key)
        if key not in self.model:
            assert found is None
            return
        value, deadline, ttl = self.model[key] = self.model.pop(key)
        assert found == (value, deadline - self.clock(), ttl)
        assert self.cache.get(key) == value

    @rule(key=keys)
    def remove(self, key: str) -> None:
        self.forget_what_is_due()
        assert self.cache.delete(key) == (self.model.pop(key, None) is not None)

    @rule(seconds=st.sampled_from([0.5, 1, 2.5, 10]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def clear(self) -> None:
        self.forget_what_is_due()
        self.cache.clear()
        self.model.clear()

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        self.forget_what_is_due()
        assert self.cache.size() == len(self.cache) == len(self.model) <= 4
        assert all(key in self.cache for key in self.model)
        assert len(self.cache._deadlines) <= 2 * 4 + 64


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_it_does_what_a_model_does = AgainstAModel.TestCase


def test_what_expired_is_told_once() -> None:
    clock = Clock()
    cache = PythonCache(10, 5, timer=clock)
    cache.set_many({"a": "1", "b": "2"})
    cache.set("c", "3", 50)
    clock.advance(5)
    assert cache.get("a") is None
    assert (cache.cleanup_expired(), cache.cleanup_expired()) == (2, 0)
    assert cache.get_many(["a", "c"]) == [None, "3"]
    assert cache.delete_many(["b", "c"]) == 1


@pytest.mark.parametrize("engine", [PythonCache, RustCache])
def test_both_engines_refuse_the_same(engine: Any) -> None:
    for arguments in ((0, 1), (-1, 1), (1, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"max_size|ttl_secs"):
            engine(*arguments)
    with pytest.raises(TypeError):
        engine("10", 1)
    cache = engine(2, 10)
    for ttl in (-1, math.nan):
        with pytest.raises(ValueError, match="ttl"):
            cache.set("a", "b", ttl)
    with pytest.raises(TypeError):
        cache.set("a", 1)
    with pytest.raises(TypeError):
        cache.get(1)
    with pytest.raises(UnicodeEncodeError):
        cache.set("\ud800", "a")
    assert repr(cache) == f"{engine.__name__}(size=0)"
