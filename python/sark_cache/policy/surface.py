"""The type that ``create_policy_cache`` returns: what every policy cache can do, wherever it keeps decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sark_cache.policy.base import Decision, Evaluate, Explanation, Lookup
    from sark_cache.policy.generations import Token
    from sark_cache.policy.metrics import CacheMetrics


class PolicyCache(Protocol):
    """A cache of authorization decisions. ``RustPolicyCache`` documents each method, and what is guaranteed."""

    backend: str
    enabled: bool
    ttl_seconds: float

    @property
    def metrics(self) -> CacheMetrics: ...
    @metrics.setter
    def metrics(self, metrics: CacheMetrics) -> None: ...
    @property
    def policy_revision(self) -> str | None: ...
    @policy_revision.setter
    def policy_revision(self, revision: str | None) -> None: ...

    async def get_or_evaluate(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        sensitivity: str | None = None,
        ttl_seconds: float | None = None,
        *,
        evaluate: Evaluate,
        bypass: bool = False,
    ) -> Decision | None: ...

    async def get(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        sensitivity: str | None = None,
        *,
        bypass: bool = False,
    ) -> Decision | None: ...

    async def lookup(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        sensitivity: str | None = None,
    ) -> Lookup: ...

    async def set(
        self,
        user_id: str,
        action: str,
        resource: str,
        decision: Decision,
        context: Mapping[str, Any] | None = None,
        ttl_seconds: float | None = None,
        sensitivity: str | None = None,
        *,
        token: Token | None = None,
    ) -> bool: ...

    async def delete(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> bool: ...

    async def get_batch(
        self, requests: Iterable[tuple[str, str, str, Mapping[str, Any] | None]]
    ) -> list[Decision | None]: ...

    async def set_batch(
        self, entries: Iterable[tuple[str, str, str, Decision, Mapping[str, Any] | None, float | None]]
    ) -> int: ...

    async def preload_cache(
        self, preload_data: Iterable[tuple[str, str, str, Decision, Mapping[str, Any] | None]]
    ) -> int: ...

    async def invalidate(
        self, user_id: str | None = None, action: str | None = None, resource: str | None = None
    ) -> int: ...

    async def invalidate_pattern(self, pattern: str) -> int: ...
    async def clear(self) -> bool: ...
    async def clear_all(self) -> bool: ...
    async def size(self) -> int: ...
    async def get_cache_size(self) -> int: ...
    async def cleanup_expired(self) -> int: ...
    async def health_check(self) -> bool: ...

    async def explain(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Explanation: ...

    async def close(self) -> None: ...
    def get_metrics(self) -> dict[str, Any]: ...
    def reset_metrics(self) -> None: ...
    def totals(self) -> dict[str, int]: ...
    def latencies(self) -> tuple[list[int], float]: ...
    def record_opa_latency(self, latency_ms: float) -> None: ...
    def set_revalidate_callback(self, callback: Callable[..., Awaitable[Decision | None]]) -> None: ...
