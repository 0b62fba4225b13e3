"""What type checkers must report about the policy cache. Checked by mypy --strict and pyright, and run as a test."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from sark_cache.policy import Explanation, Lookup, PolicyCache, PythonPolicyCache, RustPolicyCache, create_policy_cache


async def evaluate() -> dict[str, Any]:
    return {"allow": True}


async def uses(cache: PolicyCache) -> None:
    assert_type(await cache.get_or_evaluate("u", "a", "r", evaluate=evaluate), dict[str, Any] | None)
    assert_type(
        await cache.get_or_evaluate("u", "a", "r", {"ip": 1}, "public", 5.0, evaluate=lambda: None),
        dict[str, Any] | None,
    )
    assert_type(await cache.get("u", "a", "r"), dict[str, Any] | None)
    missed = await cache.lookup("u", "a", "r")
    assert_type(missed, Lookup)
    assert_type(await cache.set("u", "a", "r", {"allow": True}, token=missed.token), bool)
    assert_type(await cache.get_batch([("u", "a", "r", None), ("u", "a", "r", {"ip": 1})]), list[dict[str, Any] | None])
    assert_type(await cache.explain("u", "a", "r"), Explanation)
    assert_type(cache.metrics.hits, int)
    cache.policy_revision = "r2"
    cache.enabled = False


async def every_kind() -> None:
    await uses(create_policy_cache(max_size=10))
    await uses(RustPolicyCache(10, 60))
    await uses(PythonPolicyCache(10, 60))


def refused() -> None:
    """Never called: only type checkers read it."""
    create_policy_cache(ttl_second=5)  # type: ignore[call-arg]
    create_policy_cache(enabled="no")  # type: ignore[arg-type]
    RustPolicyCache(optimized_ttl=5)  # type: ignore[arg-type]
