"""What all policy caches have in common: their settings and their counts.

The subclasses decide where decisions are kept: ``DecisionCache`` for engines in this process,
``RedisPolicyCache`` for a server. This module never reads a decision, and writes one only through their
``set``.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict

from sark_cache.policy import forks, lifetimes
from sark_cache.policy.keys import checked_fields
from sark_cache.policy.metrics import CacheMetrics, Totals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from sark_cache.policy.generations import Token

    Decision = dict[str, Any]
    Evaluate = Callable[[], Awaitable["Decision | None"] | Decision | None]

_log = logging.getLogger("sark_cache.policy")


class Lookup(NamedTuple):
    """What a look-up found, and what an evaluation that follows it needs."""

    decision: Decision | None
    token: Token | None
    """Lets ``set`` tell that nothing was invalidated meanwhile; None if the request can't be cached."""
    key: str | None
    remaining: float | None = None
    """How many seconds the decision will still be served; None if the engine doesn't tell."""
    ttl: float | None = None
    """How many seconds it was stored for; None if the engine doesn't tell."""


class Explanation(NamedTuple):
    """Where an answer would come from, for people who examine one."""

    source: str
    """``"cache"``, or ``"evaluation"`` if the request would have to be evaluated."""
    reason: str
    decision: Decision | None
    key: str | None
    age: float | None
    """Seconds since the decision was stored."""
    remaining: float | None
    """How many seconds it will still be served."""
    generation: str | None
    """The generations of everything and of the user, in hex. Changes with every invalidation."""
    revision: str | None
    """The configured policy revision."""
    backend: str


class Settings(TypedDict, total=False):
    """The keyword-only settings of ``BasePolicyCache``. For type checkers."""

    optimized_ttl: Mapping[str, float] | None
    allow_ttl_seconds: float | None
    deny_ttl_seconds: float | None
    cacheable: Callable[[Decision], bool] | None
    policy_revision: str | None
    volatile_fields: Collection[str]
    max_evaluation_seconds: float
    stale_while_revalidate: bool
    logger: Any


class AllSettings(Settings, total=False):
    """The settings of all caches that ``create_policy_cache`` makes. For type checkers."""

    max_size: int | None
    ttl_seconds: float | None
    enabled: bool
    use_optimized_ttl: bool


class BasePolicyCache:
    """Settings and counts. See ``RustPolicyCache`` for what an application uses.

    Args:
        ttl_seconds: How long decisions are kept unless another setting applies.
        enabled: If False, nothing is looked up or stored. May be changed at any time.
        use_optimized_ttl: Whether each level of sensitivity has its own time.
        optimized_ttl: Seconds by level, in addition to the defaults. 0: decisions of the level are never
            stored.
        allow_ttl_seconds: The longest time that decisions that allow are kept. 0: never.
        deny_ttl_seconds: The same for all other decisions.
        cacheable: Called with every decision. Decisions for which it returns False or raises are not stored.
            Meant for denials that were made because something was down.
        policy_revision: Part of every key. Setting another one makes all older decisions unreachable.
        volatile_fields: Top-level fields of contexts that are left out of keys. Only for fields that decide
            nothing.
        max_evaluation_seconds: How long after an invalidation a ``set`` without a token is refused, if the
            invalidation covers it.
        stale_while_revalidate: Whether a hit in the last part of a decision's time
            (``STALE_THRESHOLD_RATIO``) triggers a revalidation.
        logger: A logger to use instead of ``sark_cache.policy``. One of structlog's works, too.
    """

    KEY_PREFIX: ClassVar[str] = "policy:decision"
    DEFAULT_TTL_SECONDS: ClassVar[int] = 300
    OPTIMIZED_TTL: dict[str, float] = lifetimes.OPTIMIZED_TTL
    """Seconds by level: on the class the defaults, on an instance the effective ones, including aliases."""
    backend: str = "none"

    def __init__(
        self,
        ttl_seconds: float | None = None,
        enabled: bool = True,
        use_optimized_ttl: bool = True,
        *,
        optimized_ttl: Mapping[str, float] | None = None,
        allow_ttl_seconds: float | None = None,
        deny_ttl_seconds: float | None = None,
        cacheable: Callable[[Decision], bool] | None = None,
        policy_revision: str | None = None,
        volatile_fields: Collection[str] = (),
        max_evaluation_seconds: float = 10.0,
        stale_while_revalidate: bool = False,
        logger: Any = None,
    ) -> None:
        for name, value in (("allow_ttl_seconds", allow_ttl_seconds), ("deny_ttl_seconds", deny_ttl_seconds)):
            if value is not None:
                lifetimes.checked_seconds(name, value, zero=True)
        if policy_revision is not None and not isinstance(policy_revision, str):
            raise TypeError(f"policy_revision must be a str or None, not {type(policy_revision).__name__}")
        if cacheable is not None and not callable(cacheable):
            raise TypeError(f"cacheable must be callable or None, not {cacheable!r}")
        switches = {
            "enabled": enabled,
            "use_optimized_ttl": use_optimized_ttl,
            "stale_while_revalidate": stale_while_revalidate,
        }
        for name, switch in switches.items():
            # A text from the environment would always be true.
            if not isinstance(switch, bool):
                raise TypeError(f"{name} must be True or False, not {switch!r}")
        seconds = self.DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds
        self.ttl_seconds = lifetimes.checked_seconds("ttl_seconds", seconds, zero=False)
        self.enabled = enabled
        self.use_optimized_ttl = use_optimized_ttl
        self.OPTIMIZED_TTL = lifetimes.effective_levels(type(self).OPTIMIZED_TTL, optimized_ttl)
        self.allow_ttl_seconds = allow_ttl_seconds
        self.deny_ttl_seconds = deny_ttl_seconds
        self.cacheable = cacheable
        self._volatile_fields = checked_fields(volatile_fields)
        self.max_evaluation_seconds = lifetimes.checked_seconds(
            "max_evaluation_seconds", max_evaluation_seconds, zero=True
        )
        self.stale_while_revalidate = stale_while_revalidate
        self.revalidate_callback: Callable[..., Awaitable[Decision | None]] | None = None
        self._policy_revision = policy_revision
        self._log = _log if logger is None else logger
        self._metrics = CacheMetrics()
        self._totals = Totals()
        forks.register(self)

    # Implemented by subclasses.

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
        """Returns the cached decision, or None."""
        raise NotImplementedError

    async def lookup(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        sensitivity: str | None = None,
    ) -> Lookup:
        """Like ``get``, but also returns what an evaluation needs to store its decision safely.

        Pass it on as ``set(..., token=lookup.token)``.
        """
        raise NotImplementedError

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
    ) -> bool:
        """Stores a decision. Returns whether it was stored."""
        raise NotImplementedError

    def _collect(self) -> None:
        """Adds to the metrics what was counted elsewhere."""

    # Counts.

    @property
    def metrics(self) -> CacheMetrics:
        """Counts since the last reset. May be replaced by another object."""
        self._collect()
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: CacheMetrics) -> None:
        self._collect()
        self._totals.retire(self._metrics)
        self._metrics = metrics

    def get_metrics(self) -> dict[str, Any]:
        """Returns the main counts, the rates and the average latency."""
        return self.metrics.to_dict()

    def reset_metrics(self) -> None:
        """Sets all counts to zero. What exporters see is not reset."""
        self.metrics = CacheMetrics()

    def totals(self) -> dict[str, int]:
        """Returns all counts since the cache was made, regardless of resets. For exporters."""
        return self._totals.with_current(self.metrics)

    def latencies(self) -> tuple[list[int], float]:
        """Returns the number of timed hits per bucket of ``LATENCY_BUCKETS``, and their total time in seconds."""
        self._collect()
        return list(self._totals.buckets), self._totals.seconds

    def record_opa_latency(self, latency_ms: float) -> None:
        """Adds the duration of an evaluation to the average. Only counts after a miss."""
        metrics = self.metrics
        if metrics.misses > 0:
            metrics.opa_latency_ms += (latency_ms - metrics.opa_latency_ms) / metrics.misses

    def _failed(self, operation: str, error: BaseException, *, missed: bool = False) -> None:
        """Counts and logs an error that the authorization path must not see."""
        self._metrics.errors += 1
        if missed:
            self._metrics.record_misses()
        self._log.warning("policy cache: %s failed: %s: %s", operation, type(error).__name__, error)

    # Settings.

    @property
    def policy_revision(self) -> str | None:
        """The revision of the policies, which is part of every key."""
        return self._policy_revision

    @policy_revision.setter
    def policy_revision(self, revision: str | None) -> None:
        if revision is not None and not isinstance(revision, str):
            raise TypeError(f"policy_revision must be a str or None, not {type(revision).__name__}")
        if revision != self._policy_revision:
            self._policy_revision = revision
            self._revision_changed()

    def _revision_changed(self) -> None:
        """Makes sure that nothing evaluated under the old revision is stored any more."""

    def set_revalidate_callback(self, callback: Callable[..., Awaitable[Decision | None]]) -> None:
        """Sets the callback that ``get`` revalidates with, if ``stale_while_revalidate`` is set.

        It is called with ``(user_id, action, resource, context)``. Such a callback doesn't know the caller's
        roles. ``get_or_evaluate`` uses the caller's own closure instead.
        """
        self.revalidate_callback = callback

    def _get_ttl_for_sensitivity(self, sensitivity: str | None) -> float:
        """Returns the seconds for a level, or the cache's own time.

        The latter applies without a level, for an unknown one, and if optimization is off.
        """
        if not self.use_optimized_ttl or not sensitivity or not isinstance(sensitivity, str):
            return self.ttl_seconds
        # An enum of strings hashes by its name, and would not be found.
        return self.OPTIMIZED_TTL.get(str.__str__(sensitivity), self.ttl_seconds)

    def _never_stored(self, sensitivity: str | None) -> bool:
        return sensitivity is not None and self._get_ttl_for_sensitivity(sensitivity) == 0

    def _ttl_for(self, decision: Decision, ttl_seconds: float | None, sensitivity: str | None) -> float:
        """Returns how long to keep a decision, in seconds. 0: not at all."""
        if ttl_seconds is not None:
            ttl = lifetimes.checked_seconds("ttl_seconds", ttl_seconds, zero=True)
        else:
            ttl = self._get_ttl_for_sensitivity(sensitivity)
            if self.allow_ttl_seconds is not None or self.deny_ttl_seconds is not None:
                ttl = lifetimes.shortest(ttl, self._ttl_of_verdict(decision))
        hook = self.cacheable
        return ttl if ttl == 0 or hook is None or self._is_cacheable(decision, hook) else 0

    def _ttl_of_verdict(self, decision: Decision) -> float | None:
        return self.allow_ttl_seconds if lifetimes.is_allow(decision) else self.deny_ttl_seconds

    def _is_cacheable(self, decision: Decision, cacheable: Callable[[Decision], bool]) -> bool:
        try:
            return bool(cacheable(decision))
        except Exception as error:  # whatever the application raises, not storing is always right
            self._failed("cacheable()", error)
            return False

    def _prepared(
        self, decision: Decision, ttl_seconds: float | None, sensitivity: str | None
    ) -> tuple[str | None, float]:
        """Returns the text and the time, or None and 0 for what can't be stored, which is then counted and logged."""
        try:
            if not isinstance(decision, dict):
                raise TypeError(f"decision must be a dict, not {type(decision).__name__}")
            return json.dumps(decision), self._ttl_for(decision, ttl_seconds, sensitivity)
        except (TypeError, ValueError, RecursionError) as error:
            self._failed("set", error)
            return None, 0

    # The remaining methods of the Redis class that this class may replace.

    async def preload_cache(
        self, preload_data: Iterable[tuple[str, str, str, Decision, Mapping[str, Any] | None]]
    ) -> int:
        """Stores many decisions and returns how many were stored.

        They are given as ``(user_id, action, resource, decision, context)``.
        """
        if not self.enabled:
            return 0
        entries = [(*entry[:4], entry[4], None) for entry in preload_data]
        return await self.set_batch(entries)

    async def set_batch(
        self, entries: Iterable[tuple[str, str, str, Decision, Mapping[str, Any] | None, float | None]]
    ) -> int:
        """Stores many decisions and returns how many were stored.

        They are given as ``(user_id, action, resource, decision, context, ttl_seconds)``.
        """
        if not self.enabled:
            return 0
        stored = 0
        try:
            for user_id, action, resource, decision, context, ttl_seconds in entries:
                stored += await self.set(user_id, action, resource, decision, context, ttl_seconds)
        except Exception as error:  # a cache never breaks an authorization path
            self._failed("set_batch", error)
        self._metrics.batch_operations += 1
        return stored

    def _after_fork(self) -> None:
        self._collect()
        self._metrics = CacheMetrics()
        self._totals = Totals()
