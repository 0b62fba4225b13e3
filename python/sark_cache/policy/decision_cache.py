"""Decisions in an engine of this process, reached by plain calls: one ``get``, ``set`` or ``delete`` per operation.

The engine is anything with the methods of ``RustCache``, including a mock. It stores the JSON text of
decisions under keys that carry the generations, so an invalidated decision can't be found any more, whatever
the engine does. The methods are coroutines that never suspend: an engine answers in microseconds, and no
other thread is involved.
"""

from __future__ import annotations

import json
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from sark_cache.policy.base import Explanation, Lookup
from sark_cache.policy.evaluation import EvaluatingCache
from sark_cache.policy.generations import Generations, Token, combined
from sark_cache.policy.keys import KeyBuilder, Uncacheable
from sark_cache.policy.stored import check_requests, decoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sark_cache.policy.base import Decision

_HEALTHY = json.dumps({"status": "ok"})


class DecisionCache(EvaluatingCache):
    """A policy cache over the engine in its attribute ``cache``, which may be replaced at any time."""

    DEFAULT_MAX_SIZE: ClassVar[int] = 10_000

    def __init__(
        self,
        engine: Any,
        max_size: int,
        ttl_seconds: float | None,
        enabled: bool,
        use_optimized_ttl: bool,
        **options: Any,
    ) -> None:
        super().__init__(ttl_seconds, enabled, use_optimized_ttl, **options)
        self.cache = engine
        self.max_size = max_size
        self._generations = Generations()
        self._keys = self._new_keys()

    # Keys and generations.

    def __repr__(self) -> str:
        settings = f"max_size={self.max_size}, ttl_seconds={self.ttl_seconds}, enabled={self.enabled}"
        return f"{type(self).__name__}({settings})"

    def _new_keys(self) -> KeyBuilder:
        return KeyBuilder(self.KEY_PREFIX, self._policy_revision, self._volatile_fields)

    def _revision_changed(self) -> None:
        self._keys = self._new_keys()
        self._generations.replace_everything()

    def _key(self, user_id: object, action: object, resource: object, context: object) -> str:
        return self._keys.key(self._generations.state, user_id, action, resource, context)

    def _generate_cache_key(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> str:
        """Returns the current key of a request. Invalidating its user, or everything, changes it.

        Raises:
            Uncacheable: if the request can't have a key.
        """
        return self._key(user_id, action, resource, context)

    def _key_or_none(self, user_id: object, action: object, resource: object, context: object) -> str | None:
        """Returns the key, or None for a request that can't have one, which is counted and logged."""
        try:
            return self._key(user_id, action, resource, context)
        except Uncacheable as error:
            self._metrics.uncacheable += 1
            self._log.debug("policy cache: not cacheable: %s", error)
            return None

    # Look-ups.

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
        if not self.enabled or bypass or self._never_stored(sensitivity):
            return None
        if self.stale_while_revalidate and self.revalidate_callback is not None:
            return await self._get_and_revalidate(user_id, action, resource, context)
        return self._get(user_id, action, resource, context)

    def _get(self, user_id: object, action: object, resource: object, context: object) -> Decision | None:
        start = perf_counter()
        try:
            key = self._key_or_none(user_id, action, resource, context)
            decision = None if key is None else decoded(self.cache.get(key))
        except Exception as error:  # a cache never breaks an authorization path
            self._failed("get", error, missed=True)
            return None
        self._record(decision, start)
        return decision

    def _record(self, decision: Decision | None, start: float) -> None:
        if decision is None:
            self._metrics.record_misses()
            return
        took = perf_counter() - start
        self._metrics.record_hits(1, took * 1000)
        self._totals.record_latency(took)

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
        if not self.enabled:
            return Lookup(None, None, None)
        start = perf_counter()
        remaining = ttl = None
        try:
            # The token comes first: whatever is invalidated from now on makes it void.
            token, key = self._token_and_key(user_id, action, resource, context)
            self._metrics.uncacheable += key is None
            if key is None or self._never_stored(sensitivity):
                found = None
            elif self._engine_tells_ttl():
                timed = self.cache.get_with_ttl(key)
                found, remaining, ttl = timed or (None, None, None)
            else:
                found = self.cache.get(key)
            decision = decoded(found)
        except Exception as error:
            self._failed("lookup", error, missed=True)
            return Lookup(None, None, None)
        self._record(decision, start)
        return Lookup(decision, token, key, remaining, ttl)

    _get_before_lookup = True

    def _missed(self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None) -> Lookup:
        # The evaluation begins after this, so whatever it sees is at least as new as the token.
        return Lookup(None, *self._token_and_key(user_id, action, resource, context))

    def _token_and_key(
        self, user_id: object, action: object, resource: object, context: object
    ) -> tuple[Token | None, str | None]:
        try:
            return self._generations.token(user_id), self._key(user_id, action, resource, context)
        except Uncacheable as error:
            self._log.debug("policy cache: not cacheable: %s", error)
            return None, None

    async def _get_and_revalidate(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None
    ) -> Decision | None:
        found = await self.lookup(user_id, action, resource, context)
        callback = self.revalidate_callback
        if found.decision is not None and callback is not None and self._is_stale(found):
            self._revalidate(
                user_id, action, resource, context, found, lambda: callback(user_id, action, resource, context)
            )
        return found.decision

    def _engine_tells_ttl(self) -> bool:
        """Returns whether the engine is known to have ``get_with_ttl``. Other engines are asked by ``get``."""
        return False

    async def get_batch(
        self, requests: Iterable[tuple[str, str, str, Mapping[str, Any] | None]]
    ) -> list[Decision | None]:
        """Returns the decisions on requests, in order, with None for a miss.

        Requests are given as ``(user_id, action, resource, context)``.
        """
        requests = list(requests)
        if not self.enabled or not requests:
            return [None] * len(requests)
        try:
            decisions = self._get_batch(requests)
        except Exception as error:
            self._failed("get_batch", error)
            return [None] * len(requests)
        self._metrics.batch_operations += 1
        return decisions

    def _get_batch(self, requests: list[Any]) -> list[Decision | None]:
        check_requests(requests)
        return [self._get(*request) for request in requests]

    # Storing.

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
        """Stores a decision. Returns whether it was stored.

        It is not stored if its time comes out as zero (an older decision is then forgotten), if it isn't a
        dict of JSON, if the request can't have a key, or if anything that covers it was invalidated since the
        token was taken. Without a token, an invalidation within the last ``max_evaluation_seconds`` counts,
        since the evaluation may have begun before it.

        Args:
            ttl_seconds: Seconds; takes precedence over the level and the verdict.
            sensitivity: The level, which determines the time.
            token: From a ``lookup`` made before the evaluation began.
        """
        if not self.enabled:
            return False
        try:
            # The key comes first: an invalidation after this leaves the entry under the old generations,
            # where no look-up finds it.
            key = self._key_or_none(user_id, action, resource, context)
            if key is None:
                return False
            text, ttl = self._prepared(decision, ttl_seconds, sensitivity)
            deletions = self._generations.deletions
            if not self._admitted(token, user_id, key):
                self._metrics.refused += 1
                return False
            if text is None or ttl == 0:
                self.cache.delete(key)
                return False
            self._count_eviction()
            self.cache.set(key, text, ttl)
            if deletions != self._generations.deletions and self._generations.deleted_since(deletions, key):
                # Another thread deleted the key after we checked, and may have done so before we stored.
                self.cache.delete(key)
                return False
        except Exception as error:
            self._failed("set", error)
            return False
        return True

    def _admitted(self, token: Token | None, user_id: object, key: str) -> bool:
        generations = self._generations
        if token is not None:
            return generations.admits(token, generations.state, user_id, key)
        window = self.max_evaluation_seconds
        return generations.quiet_for(window) or not generations.invalidated_within(window, user_id, key)

    def _count_eviction(self) -> None:
        """Counts an eviction for engines that don't: one is due if the engine is full."""
        size = self.cache.size()
        if isinstance(size, int) and size >= self.max_size:
            self._metrics.evictions += 1

    # Invalidating.

    async def delete(self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None) -> bool:
        """Forgets one decision. Returns whether there was one. Evaluations of it that are under way are not stored.

        For a request that can't have a key, everything is forgotten: some decision is meant, but it can't be
        told which.
        """
        try:
            key = self._key_or_none(user_id, action, resource, context)
            if key is None:
                # Nothing is stored under this request, but something may be stored under the one that was
                # meant.
                await self.clear()
                return False
            self._generations.delete(key)
            if self._flights is not None:
                self._flights.detach(key)
            return bool(self.cache.delete(key))
        except Exception as error:
            self._failed("delete", error)
            return False

    async def clear(self) -> bool:
        """Forgets everything. Returns False if the engine failed, though even then nothing can be found any more."""
        self._generations.replace_everything()
        try:
            self.cache.clear()
        except Exception as error:
            self._failed("clear", error)
            return False
        return True

    async def clear_all(self) -> bool:
        """Does the same as ``clear``."""
        return await self.clear()

    async def invalidate(
        self, user_id: str | None = None, action: str | None = None, resource: str | None = None
    ) -> int:
        """Forgets all decisions on a user, including those of evaluations under way. O(1), without any search.

        Action and resource can't narrow it down, since contexts are part of keys. Without a user, or if the
        user id isn't a str, everything is forgotten. Returns 1, for one generation: the entries are not
        counted.
        """
        if isinstance(user_id, str):
            try:
                self._generations.replace_user(user_id)
                return 1
            except Uncacheable as error:
                # No decision of such a user was ever stored, unless under another spelling.
                self._log.debug("policy cache: everything is invalidated: %s", error)
        await self.clear()
        return 1

    async def invalidate_pattern(self, pattern: str) -> int:
        """Forgets everything: it can't be told which requests a pattern over readable keys means."""
        self._log.debug("policy cache: everything is invalidated for the pattern %r", pattern)
        return await self.invalidate()

    # Remaining methods.

    async def size(self) -> int:
        """Returns how many entries the engine holds, including invalidated ones that haven't aged out."""
        try:
            return int(self.cache.size())
        except Exception as error:
            self._failed("size", error)
            return 0

    async def get_cache_size(self) -> int:
        """Does the same as ``size``."""
        return await self.size()

    async def cleanup_expired(self) -> int:
        """Reclaims expired entries. Returns how many entries expired since the last call."""
        try:
            return int(self.cache.cleanup_expired())
        except Exception as error:
            self._failed("cleanup_expired", error)
            return 0

    async def health_check(self) -> bool:
        """Returns whether the engine keeps what it is given. Doesn't change the metrics."""
        key = f"{self.KEY_PREFIX}:_health_check_"
        try:
            self.cache.set(key, _HEALTHY, 1)
            healthy = bool(self.cache.get(key) == _HEALTHY)
            self.cache.delete(key)
        except Exception as error:
            self._log.warning("policy cache: not healthy: %s: %s", type(error).__name__, error)
            return False
        return healthy

    async def explain(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Explanation:
        """Returns where the answer to a request would come from now, and why. Not counted, but it counts as a use."""
        state = self._generations.state
        try:
            generation = combined(state, user_id).hex()
            key = self._keys.key(state, user_id, action, resource, context)
        except Uncacheable as error:
            return self._explanation("evaluation", f"not cacheable: {error}")
        if not self.enabled:
            return self._explanation("evaluation", "the cache is disabled", key=key, generation=generation)
        remaining = ttl = None
        try:
            if self._engine_tells_ttl():
                found, remaining, ttl = self.cache.get_with_ttl(key) or (None, None, None)
            else:
                found = self.cache.get(key)
            decision = decoded(found)
        except Exception as error:
            return self._explanation("evaluation", f"the engine failed: {error}", key=key, generation=generation)
        if decision is None:
            reason = "nothing is stored under the current generations"
            return self._explanation("evaluation", reason, key=key, generation=generation)
        age = None if remaining is None or ttl is None else ttl - remaining
        return self._explanation("cache", "stored", decision, key, age, remaining, generation)

    def _explanation(
        self,
        source: str,
        reason: str,
        decision: Decision | None = None,
        key: str | None = None,
        age: float | None = None,
        remaining: float | None = None,
        generation: str | None = None,
    ) -> Explanation:
        revision = self._policy_revision
        return Explanation(source, reason, decision, key, age, remaining, generation, revision, self.backend)

    def _after_fork(self) -> None:
        super()._after_fork()
        # Makes everything unreachable, and comes with a lock that no thread of the parent holds.
        self._generations = Generations()
        try:
            self._empty_engine()
        except Exception as error:
            self._log.warning("policy cache: not cleared after a fork: %s: %s", type(error).__name__, error)

    def _empty_engine(self) -> None:
        self.cache.clear()
