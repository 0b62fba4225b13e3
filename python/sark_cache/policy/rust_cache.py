"""Policy decisions in the native engine: the class that applications use, and the one instance of a process.

A look-up is one native call (key, engine, decoding) as long as the engine in ``cache`` is the native one. Any
other engine put there is used through plain calls, as in ``DecisionCache``; both ways give the same answers.
Importing this module never fails: without the extension, ``RUST_AVAILABLE`` is False, and creating a cache
raises.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from sark_cache.policy.decision_cache import DecisionCache
from sark_cache.policy.lifetimes import checked_seconds
from sark_cache.policy.metrics import CacheMetrics

try:
    from sark_cache._core import PolicyFront as _PolicyFront
    from sark_cache._core import RustCache
except ImportError:
    RUST_AVAILABLE = False
    RustCache = None  # type: ignore[assignment, misc]
    _PolicyFront = None  # type: ignore[assignment, misc]
else:
    RUST_AVAILABLE = True

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from sark_cache.policy.base import Decision, Settings

__all__ = [
    "RUST_AVAILABLE",
    "CacheMetrics",
    "RustCache",
    "RustPolicyCache",
    "get_rust_policy_cache",
    "is_rust_cache_available",
]

LONGEST_TTL_SECONDS = 2**31
"""The time passed to the engine where a longer time is meant."""

# Applications patch `RustCache`, so this name decides about the native path.
_NATIVE: Any = RustCache if RUST_AVAILABLE else object()


class RustPolicyCache(DecisionCache):
    """Authorization decisions, kept in this process. May be used by several threads and event loops.

    >>> import asyncio
    >>> cache = RustPolicyCache(max_size=10_000, ttl_seconds=300)
    >>> async def ask_the_policy_engine():
    ...     return {"allow": True, "reason": "owner"}
    >>> async def decide():
    ...     return await cache.get_or_evaluate("alice", "read", "doc:1", evaluate=ask_the_policy_engine)
    >>> asyncio.run(decide())
    {'allow': True, 'reason': 'owner'}

    Args:
        max_size: The most decisions; the least recently used leaves for a new one.
        ttl_seconds: How long a decision is kept unless another setting applies.
        enabled: If False, nothing is looked up or stored.
        use_optimized_ttl: Whether each level of sensitivity has its own time.
        **options: As for ``BasePolicyCache``: ``optimized_ttl``, ``allow_ttl_seconds``, ``deny_ttl_seconds``,
            ``cacheable``, ``policy_revision``, ``volatile_fields``, ``max_evaluation_seconds``,
            ``stale_while_revalidate``, ``logger``.

    Raises:
        RuntimeError: if the native extension is missing.
        ValueError: for a size or a time that isn't positive.
    """

    backend = "rust"

    def __init__(
        self,
        max_size: int | None = None,
        ttl_seconds: float | None = None,
        enabled: bool = True,
        use_optimized_ttl: bool = True,
        **options: Unpack[Settings],
    ) -> None:
        if not RUST_AVAILABLE or RustCache is None:
            raise RuntimeError(
                "Rust cache extensions not available: sark_cache._core could not be imported. "
                "Install a wheel for this platform, or use sark_cache.policy.create_policy_cache(), which falls back"
            )
        max_size = self.DEFAULT_MAX_SIZE if max_size is None else max_size
        ttl_seconds = self.DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds
        checked_seconds("ttl_seconds", ttl_seconds, zero=False)
        # The engine's own time is in whole seconds, but every decision is stored with its exact time.
        engine = RustCache(max_size, ceil(min(ttl_seconds, LONGEST_TTL_SECONDS)))
        super().__init__(engine, max_size, ttl_seconds, enabled, use_optimized_ttl, **options)
        self._front = self._new_front()
        self._evicted: tuple[Any, int] = (None, 0)

    def _new_front(self) -> Any:
        if _PolicyFront is None:
            return None
        return _PolicyFront(self.KEY_PREFIX, self._policy_revision, sorted(self._volatile_fields))

    def _revision_changed(self) -> None:
        self._collect()
        self._front = self._new_front()
        super()._revision_changed()

    def _key(self, user_id: object, action: object, resource: object, context: object) -> str:
        if self._front is not None:
            key = self._front.key(self._generations.state, user_id, action, resource, context)
            if key is not None:
                return key  # type: ignore[no-any-return]
        # This also raises the exception that says why.
        return super()._key(user_id, action, resource, context)

    async def get(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        sensitivity: str | None = None,
        *,
        bypass: bool = False,
    ) -> Decision | None:
        """Returns the cached decision, a new dict each time, or None if it is missing, expired or invalidated.

        Args:
            sensitivity: For a level whose decisions are never stored, the answer is None.
            bypass: Skip the look-up.
        """
        engine = self.cache
        if (
            type(engine) is _NATIVE
            and self.enabled
            and not bypass
            and not self.stale_while_revalidate
            and (sensitivity is None or not self._never_stored(sensitivity))
        ):
            try:
                return self._front.get(  # type: ignore[no-any-return]
                    engine, self._generations.state, user_id, action, resource, context
                )
            except Exception as error:  # a cache never breaks an authorization path
                self._failed("get", error, missed=True)
                return None
        return await super().get(user_id, action, resource, context, sensitivity, bypass=bypass)

    def _get_batch(self, requests: list[Any]) -> list[Decision | None]:
        if type(self.cache) is not _NATIVE:
            return super()._get_batch(requests)
        decisions, errors = self._front.get_batch(self.cache, self._generations.state, requests)
        for error in errors:
            self._failed("get_batch", error, missed=True)
        return decisions  # type: ignore[no-any-return]

    def _engine_tells_ttl(self) -> bool:
        return type(self.cache) is _NATIVE

    def _count_eviction(self) -> None:
        if type(self.cache) is not _NATIVE:
            super()._count_eviction()

    def _collect(self) -> None:
        """Adds what the native side counted since the last call."""
        if self._front is None:
            return
        hits, misses, uncacheable, buckets, nanoseconds = self._front.take_counts()
        metrics, timed = self._metrics, sum(buckets)
        metrics.record_hits(hits, nanoseconds / timed / 1e6 if timed else None)
        metrics.record_misses(misses)
        metrics.uncacheable += uncacheable
        self._totals.record_latencies(buckets, nanoseconds / 1e9)
        engine = self.cache
        if type(engine) is _NATIVE:
            evicted = engine.stats().evicted
            known, before = self._evicted
            metrics.evictions += evicted - (before if known is engine else 0)
            self._evicted = (engine, evicted)


_cache_instance: RustPolicyCache | None = None


def get_rust_policy_cache(
    max_size: int | None = None, ttl_seconds: float | None = None, enabled: bool = True
) -> RustPolicyCache:
    """Returns the one instance of this process.

    The first call creates it with these settings. Later calls don't change it.

    Raises:
        RuntimeError: if the native extension is missing.
    """
    global _cache_instance
    if _cache_instance is None:
        _cache_instance = RustPolicyCache(max_size=max_size, ttl_seconds=ttl_seconds, enabled=enabled)
    return _cache_instance


def is_rust_cache_available() -> bool:
    """Returns whether the native extension could be imported."""
    return RUST_AVAILABLE
