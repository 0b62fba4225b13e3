"""``get_or_evaluate``: the cached decision, or one shared evaluation, stored only if that is still right.

It needs two methods of a cache: ``lookup``, which returns a token on a miss, and ``set``, which takes the
token. This module doesn't care where decisions are kept, nor how evaluations are shared. The latter is done
by ``flights``, which is imported on the first miss.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sark_cache.policy import lifetimes
from sark_cache.policy.base import BasePolicyCache, Lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sark_cache.policy.base import Decision, Evaluate
    from sark_cache.policy.flights import Flights
    from sark_cache.policy.generations import Token


class _Outcome(NamedTuple):
    """An evaluated decision, kept so that each caller that waited for it gets its own copy."""

    text: str | None
    original: Any

    def decision(self) -> Decision | None:
        """Returns a new copy. If the decision is JSON, the copy is what a hit would have returned."""
        copy: Decision | None = deepcopy(self.original) if self.text is None else json.loads(self.text)
        return copy


class EvaluatingCache(BasePolicyCache):
    """A policy cache that can have decisions evaluated."""

    STALE_THRESHOLD_RATIO: ClassVar[float] = 0.3
    """A decision with less than this fraction of its time left is revalidated, if that is enabled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._flights: Flights[_Outcome] | None = None

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
    ) -> Decision | None:
        """Returns the cached decision, or else that of ``evaluate()``, which is stored.

        Callers that ask for the same decision in one event loop at the same time share one evaluation; each
        gets a copy. Nothing is stored if the evaluation fails, is cancelled or returns None, or if anything
        that covers the request is invalidated after it began. The evaluation runs in a task of its own, with
        the caller's context variables: if the caller is cancelled, it continues for the others.

        Args:
            evaluate: Asks the policy engine. Called without arguments, may be async. Use a closure over the
                caller's roles.
            bypass: Evaluate regardless of what is cached, and leave the cache as it is.

        Raises:
            TypeError: if ``evaluate`` can't be called, even if there is a cached decision.
            Whatever ``evaluate`` raises. Errors of the cache are logged, and count as misses.
        """
        if not callable(evaluate):
            raise TypeError(f"evaluate must be a function without arguments, which may be async, not {evaluate!r}")
        if bypass or not self.enabled:
            return await _evaluated(evaluate)
        if self._never_stored(sensitivity):
            # Not shared either: each caller gets a decision whose evaluation began after its question.
            decision = await _evaluated(evaluate)
            if decision is not None:
                await self.set(user_id, action, resource, decision, context, ttl_seconds=0)
            return decision
        if self.stale_while_revalidate or not self._get_before_lookup:
            context = _copied(context)
            found = await self.lookup(user_id, action, resource, context, sensitivity)
            if found.decision is not None:
                if self.stale_while_revalidate and found.key is not None and self._is_stale(found):
                    self._revalidate(user_id, action, resource, context, found, evaluate)
                return found.decision
        else:
            decision = await self.get(user_id, action, resource, context, sensitivity)
            if decision is not None:
                return decision
            context = _copied(context)
            found = self._missed(user_id, action, resource, context)
        token, key = found.token, found.key
        if key is None:
            return await _evaluated(evaluate)

        async def work() -> _Outcome:
            decision = await _evaluated(evaluate)
            if decision is None:
                return _Outcome("null", None)
            try:
                text = json.dumps(decision)
            except (TypeError, ValueError, RecursionError):
                text = None
            # Even if it isn't JSON: then `set` refuses and logs it, and forgets an older decision.
            await self.set(user_id, action, resource, decision, context, ttl_seconds, sensitivity, token=token)
            return _Outcome(text, decision)

        return (await self._under_way().share(self._flight_of(key, token), work)).decision()

    _get_before_lookup: ClassVar[bool] = False
    """Whether ``get`` is so much faster than ``lookup`` that a hit should not pay for what only a miss needs."""

    def _missed(self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None) -> Lookup:
        """Returns what an evaluation needs that begins now, after ``get`` found nothing."""
        raise NotImplementedError

    def _flight_of(self, key: str, token: Token | None) -> str:
        """Returns what identifies evaluations that may be shared: those of one key, under the same generations."""
        return key

    def _under_way(self) -> Flights[_Outcome]:
        if self._flights is None:
            from sark_cache.policy.flights import Flights  # Imports asyncio.

            self._flights = Flights()
        return self._flights

    def _is_stale(self, found: Lookup) -> bool:
        if found.remaining is None or found.ttl is None:
            return False
        return found.remaining < found.ttl * self.STALE_THRESHOLD_RATIO

    def _revalidate(
        self,
        user_id: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None,
        found: Lookup,
        evaluate: Evaluate,
    ) -> None:
        """Re-evaluates a decision that is still good, in the background, for the same time as before."""
        context = _copied(context)

        async def work() -> _Outcome:
            try:
                decision = await _evaluated(evaluate)
                if decision is not None:
                    ttl = lifetimes.shortest(found.ttl or 0, self._ttl_of_verdict(decision))
                    self._metrics.revalidations += await self.set(
                        user_id, action, resource, decision, context, ttl, token=found.token
                    )
            except Exception as error:  # no caller waits for it
                self._failed("a revalidation", error)
                raise
            return _Outcome(None, decision)

        self._metrics.stale_hits += 1
        if found.key is not None:
            self._under_way().in_background(self._flight_of(found.key, found.token), work)

    async def close(self) -> None:
        """Cancels evaluations under way in the running loop. The cache can be used again afterwards."""
        if self._flights is not None:
            self._flights.cancel_here()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._flights = None


async def _evaluated(evaluate: Evaluate) -> Decision | None:
    result = evaluate()
    if isinstance(result, Awaitable):
        return await result
    return result


def _copied(context: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Returns a copy of the context as it is now.

    The caller may change the original during the evaluation, and the decision is on what was asked.
    """
    try:
        return deepcopy(context)
    except Exception:
        # What can't be copied isn't JSON, so the request isn't cacheable.
        return context
