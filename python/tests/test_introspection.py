"""What classes report about themselves: signatures, settings, and the memory that they take."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sark_cache import _core
from sark_cache.policy import PythonPolicyCache, RustPolicyCache

CLASSES: list[type] = [getattr(_core, name) for name in _core.__all__]
CANT_BE_MADE: list[type] = [_core.Stats]


def functions() -> Iterator[Any]:
    for owner in CLASSES:
        if owner not in CANT_BE_MADE:
            yield pytest.param(owner, id=owner.__name__)
        for name, member in vars(owner).items():
            if callable(member):
                yield pytest.param(member, id=f"{owner.__name__}.{name}")


@pytest.mark.parametrize("function", [*functions()])
def test_everything_that_can_be_called_has_a_signature(function: Callable[..., object]) -> None:
    inspect.signature(function)


def test_the_signature_of_pop_says_that_the_default_may_be_left_out() -> None:
    assert str(inspect.signature(_core.Cache.pop)) == "(self, /, key, default=Ellipsis)"
    assert str(inspect.signature(_core.Cache(10).pop)) == "(key, default=Ellipsis)"


def test_the_size_of_a_cache_grows_with_what_it_has_allocated_for_entries() -> None:
    cache: _core.Cache[int, int] = _core.Cache(10_000)
    empty = sys.getsizeof(cache)
    for number in range(10_000):
        cache[number] = number
    full = sys.getsizeof(cache)
    # At least a key, a hash and a value each.
    assert full - empty > 10_000 * 24
    assert empty < 10_000


def test_the_size_of_a_cache_that_was_not_initialised_is_that_of_the_object() -> None:
    blank = _core.Cache.__new__(_core.Cache)
    assert 0 < sys.getsizeof(blank) < 10_000


@pytest.mark.parametrize("kind", [RustPolicyCache, PythonPolicyCache])
def test_a_policy_cache_shows_its_settings(kind: type[RustPolicyCache] | type[PythonPolicyCache]) -> None:
    cache = kind(max_size=10, ttl_seconds=60)
    assert repr(cache) == f"{kind.__name__}(max_size=10, ttl_seconds=60, enabled=True)"
