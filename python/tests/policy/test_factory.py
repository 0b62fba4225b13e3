"""Which cache an application gets, and how it can find out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from policy.conftest import run
from sark_cache.policy import PythonPolicyCache, RustPolicyCache, create_policy_cache, factory, rust_cache


@pytest.fixture(autouse=True)
def made_anew() -> Iterator[None]:
    with patch.dict(factory._instances, clear=True), patch.object(factory, "_warned", False):
        yield


def test_without_a_server_decisions_are_kept_in_the_process_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "sark_cache.policy"):
        cache = create_policy_cache(max_size=10)
    assert type(cache) is RustPolicyCache and cache.backend == "rust" and cache.max_size == 10
    assert len(caplog.records) == 1 and "in this process only" in caplog.text


def test_with_a_server_decisions_are_kept_there_alone_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    with caplog.at_level(logging.INFO, "sark_cache.policy"):
        cache = create_policy_cache(redis_url=redis_url)
    assert cache.backend == "redis"
    assert len(caplog.records) == 1 and "Redis alone" in caplog.text


def test_where_the_extension_is_missing_plain_python_is_used_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with patch.object(rust_cache, "RUST_AVAILABLE", False):
        with caplog.at_level(logging.INFO, "sark_cache.policy"), pytest.warns(ImportWarning, match="slower Python"):
            cache = create_policy_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            create_policy_cache(max_size=7)
    assert type(cache) is PythonPolicyCache and cache.backend == "python"
    assert "plain Python" in caplog.text


def test_one_configuration_is_one_instance() -> None:
    def cacheable(decision: object) -> bool:
        return True

    options = {"max_size": 10, "cacheable": cacheable, "volatile_fields": ["b", "a"], "optimized_ttl": {"x": 1, "y": 2}}
    cache = create_policy_cache(**options)
    assert create_policy_cache(**{**options, "volatile_fields": ["a", "b"], "optimized_ttl": {"y": 2, "x": 1}}) is cache
    others = [
        {**options, "max_size": 11},
        {**options, "optimized_ttl": {"x": 1}},
        {**options, "cacheable": lambda _: True},
    ]
    assert all(create_policy_cache(**other) is not cache for other in others)
    assert create_policy_cache(ttl_seconds=60) is not create_policy_cache(ttl_seconds=60.0)


def test_settings_are_given_by_name_and_unknown_ones_are_refused() -> None:
    with pytest.raises(TypeError):
        create_policy_cache("redis://localhost")  # type: ignore[misc]
    with pytest.raises(TypeError, match="unheard_of"):
        create_policy_cache(unheard_of=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimized_ttl": 5}, TypeError, "optimized_ttl must be a dict .*, not 5"),
        ({"redis_url": 5}, TypeError, "redis_url must be a str or None, not int"),
        ({"redis_url": "nonsense"}, ValueError, "redis_url must be a URL such as .*, not 'nonsense'"),
        ({"volatile_fields": 5}, TypeError, "volatile_fields must be a collection of str.*, not 5"),
        ({"cacheable": 5}, TypeError, "cacheable must be callable or None, not 5"),
        ({"enabled": "no"}, TypeError, "enabled must be True or False, not 'no'"),
        ({"use_optimized_ttl": 1}, TypeError, "use_optimized_ttl must be True or False, not 1"),
        ({"stale_while_revalidate": "no"}, TypeError, "stale_while_revalidate must be True or False, not 'no'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name_when_the_cache_is_made(
    options: Any, error: Any, message: str
) -> None:
    if "redis_url" in options:
        pytest.importorskip("redis")
    with pytest.raises(error, match=message):
        create_policy_cache(**options)


def test_what_can_not_be_called_is_no_evaluation() -> None:
    with pytest.raises(TypeError, match="evaluate must be a function .*, not None"):
        run(create_policy_cache().get_or_evaluate("u", "a", "r", evaluate=None))  # type: ignore[arg-type]


def test_without_a_client_for_the_server_the_error_says_what_to_install() -> None:
    with patch.dict("sys.modules", {"redis": None, "redis.asyncio": None, "valkey": None, "valkey.asyncio": None}):
        for url in ("redis://localhost", "valkey://localhost"):
            with pytest.raises(ImportError, match=r"sark-cache\[redis\]"):
                create_policy_cache(redis_url=url)


def test_what_it_gives_works() -> None:
    cache = create_policy_cache()
    assert run(cache.get_or_evaluate("u", "a", "r", evaluate=lambda: {"allow": True})) == {"allow": True}
