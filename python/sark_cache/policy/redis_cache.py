"""Policy decisions in Redis or Valkey only: shared by all processes, one round trip per look-up, nothing kept here.

The generations are keys on the server, and an entry carries those that were current before its evaluation
began. A look-up asks for the entry and both generations in one MGET, and takes the entry only if they agree.
A generation that is missing, because it expired or the server lost it, gets a new random value. Any entry
that carries the old one is then a miss.

Reads and stores fail soft, as misses. Invalidations don't: if the server can't be reached, they raise. After
an answer that didn't come in time, reads and stores skip the server for a while, so that a server that hangs
delays few of them.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from os import urandom
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sark_cache.policy.base import Explanation, Lookup
from sark_cache.policy.breaker import Breaker
from sark_cache.policy.evaluation import EvaluatingCache
from sark_cache.policy.generations import Token
from sark_cache.policy.keys import KeyBuilder, Uncacheable, encode
from sark_cache.policy.redis_wire import Names, asyncio_of, client_of, is_timeout, opened, sealed
from sark_cache.policy.stored import check_requests, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sark_cache.policy.base import Decision

GENERATION_TTL_SECONDS = 7 * 24 * 3600
"""How long a generation lives after it was created or replaced. No entry is stored for longer."""

DELETION_TTL_SECONDS = 24 * 3600
"""An evaluation that takes longer than this may be stored although its decision was deleted meanwhile."""

_GENERATION_BYTES = 16
_NO_STATE: tuple[bytes, dict[bytes, bytes]] = (b"", {})
"""The keys of entries are the same under all generations here."""


class RedisPolicyCache(EvaluatingCache):
    """The counterpart of ``RustPolicyCache`` over a server.

    There is one connection pool per event loop, created when it is first needed.

    Args:
        redis_url: The URL of the server, such as ``redis://localhost:6379/0``. Its options set connections
            and timeouts; the defaults are
            ``?max_connections=50&timeout=1&socket_timeout=0.5&socket_connect_timeout=0.5``.
        client: An asyncio client of redis-py or valkey-py to use instead. ``close()`` doesn't close it.
        ttl_seconds: As for ``RustPolicyCache``, like the remaining arguments.

    Raises:
        ImportError: if neither the redis nor the valkey package is installed.
        TypeError: if ``redis_url`` isn't a str.
        ValueError: if both or neither of ``redis_url`` and ``client`` are given, if the URL isn't one of a
            server, or if the client decodes responses.
    """

    backend = "redis"

    def __init__(
        self,
        redis_url: str | None = None,
        ttl_seconds: float | None = None,
        enabled: bool = True,
        use_optimized_ttl: bool = True,
        *,
        client: Any = None,
        **options: Any,
    ) -> None:
        if (redis_url is None) == (client is None):
            raise ValueError("either redis_url or client must be given, and not both")
        if redis_url is not None and not isinstance(redis_url, str):
            raise TypeError(f"redis_url must be a str or None, not {type(redis_url).__name__}")
        options.pop("max_size", None)  # Up to the server; accepted so that the same options suit every backend.
        super().__init__(ttl_seconds, enabled, use_optimized_ttl, **options)
        if client is not None and client.get_encoder().decode_responses:
            raise ValueError("client: it must not decode responses (decode_responses=False), generations are bytes")
        self._client = client
        self._new_client: Callable[[], Any] | None = None
        if redis_url is not None:
            self._new_client = partial(client_of, asyncio_of(redis_url), redis_url)
            self._new_client()  # Refuses an invalid URL now, not at the first look-up.
        self._clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._breaker = Breaker()
        self._keys = self._new_keys()
        # When the revision was last changed, which the server doesn't know.
        self._revised = float("-inf")

    # Keys and clients.

    def _new_keys(self) -> KeyBuilder:
        return KeyBuilder(self.KEY_PREFIX, self._policy_revision, self._volatile_fields)

    def _revision_changed(self) -> None:
        self._keys = self._new_keys()
        self._revised = monotonic()

    def _generate_cache_key(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> str:
        """Returns the key of a request.

        Raises:
            Uncacheable: if the request can't have one.
        """
        return self._keys.key(_NO_STATE, user_id, action, resource, context)

    def _names(self, user_id: Any, action: Any, resource: Any, context: Any) -> Names | None:
        try:
            entry = self._keys.key(_NO_STATE, user_id, action, resource, context)
        except Uncacheable as error:
            self._metrics.uncacheable += 1
            self._log.debug("policy cache: not cacheable: %s", error)
            return None
        return Names.of(self.KEY_PREFIX, entry, user_id)

    def _flight_of(self, key: str, token: Token | None) -> str:
        # The generations aren't part of the key here, so that they can be looked up together.
        return key if token is None else f"{key}:{token.state.hex()}"

    def _server(self) -> Any:
        """Returns the client of the running loop."""
        if self._new_client is None:
            return self._client
        import asyncio

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._new_client()
        return client

    def _skips(self) -> bool:
        """Returns whether to skip the server now, and counts that."""
        if self._breaker.lets_through():
            return False
        self._metrics.skipped += 1
        return True

    def _failed(self, operation: str, error: BaseException, *, missed: bool = False) -> None:
        if is_timeout(error):
            self._breaker.timed_out()
        super()._failed(operation, error, missed=missed)

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
        """Returns the cached decision, or None if there is none any more or the server can't be reached."""
        if bypass or not self.enabled or self._never_stored(sensitivity):
            return None
        found = await self.lookup(user_id, action, resource, context)
        callback = self.revalidate_callback
        if (
            found.decision is not None
            and callback is not None
            and self.stale_while_revalidate
            and self._is_stale(found)
        ):
            self._revalidate(
                user_id, action, resource, context, found, lambda: callback(user_id, action, resource, context)
            )
        return found.decision

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
        names = self._names(user_id, action, resource, context)
        if names is None:
            self._metrics.record_misses()
            return Lookup(None, None, None)
        if self._skips():
            self._metrics.record_misses()
            return Lookup(None, None, None)
        try:
            token, text, remaining = await self._read(names)
            self._breaker.answered()
            entry = opened(text, token.state)
            decision = None if entry is None or self._never_stored(sensitivity) else decoded(entry.text)
        except Exception as error:  # a cache never breaks an authorization path
            self._failed("get", error, missed=True)
            return Lookup(None, None, None)
        if decision is None or entry is None:
            self._metrics.record_misses()
            return Lookup(None, token, names.entry)
        took = perf_counter() - start
        self._metrics.record_hits(1, took * 1000)
        self._totals.record_latency(took)
        return Lookup(decision, token, names.entry, remaining, entry.ttl)

    async def _read(self, names: Names) -> tuple[Token, bytes | None, float | None]:
        """Returns the generations, creating missing ones, and the entry with the seconds it has left."""
        pipe = self._server().pipeline(transaction=False)
        pipe.mget(names.everything, names.user, names.deletion, names.entry)
        pipe.pttl(names.entry)
        (everything, user, deleted, text), remaining = await pipe.execute()
        if everything is None or user is None:
            everything, user = await self._make_generations(names)
            text = None
        state = self._state(everything, user, deleted)
        return Token(state, 0), text, remaining / 1000 if remaining >= 0 else None

    def _state(self, everything: bytes, user: bytes, deleted: bytes | None) -> bytes:
        """Returns what an entry depends on. A token that was taken under another revision must not fit, either."""
        revision = sha256(encode(self._policy_revision)).digest()[:_GENERATION_BYTES]
        return revision + everything + user + (deleted or b"")

    async def _make_generations(self, names: Names) -> tuple[bytes, bytes]:
        """Gives missing generations new values and returns both. If several clients do so, the first one wins."""
        pipe = self._server().pipeline(transaction=False)
        for name in (names.everything, names.user):
            pipe.set(name, urandom(_GENERATION_BYTES), nx=True, ex=GENERATION_TTL_SECONDS)
        pipe.mget(names.everything, names.user)
        everything, user = (await pipe.execute())[-1]
        if everything is None or user is None:
            raise LookupError("the server doesn't keep generations")
        return everything, user

    async def get_batch(
        self, requests: Iterable[tuple[str, str, str, Mapping[str, Any] | None]]
    ) -> list[Decision | None]:
        """Returns the decisions on requests, in order, in one round trip, with None for a miss.

        Requests are given as ``(user_id, action, resource, context)``.
        """
        requests = list(requests)
        if not self.enabled or not requests or self._skips():
            return [None] * len(requests)
        try:
            check_requests(requests)
            found = [self._names(*request) for request in requests]
            pipe = self._server().pipeline(transaction=False)
            for names in found:
                if names is not None:
                    pipe.mget(names.everything, names.user, names.deletion, names.entry)
            replies = iter(await pipe.execute())
            self._breaker.answered()
            decisions = [None if names is None else self._taken(next(replies)) for names in found]
        except Exception as error:
            self._failed("get_batch", error)
            return [None] * len(requests)
        hits = sum(decision is not None for decision in decisions)
        self._metrics.record_hits(hits, None)
        self._metrics.record_misses(len(decisions) - hits)
        self._metrics.batch_operations += 1
        return decisions

    def _taken(self, reply: list[bytes | None]) -> Decision | None:
        everything, user, deleted, text = reply
        if everything is None or user is None:
            return None
        entry = opened(text, self._state(everything, user, deleted))
        return None if entry is None else decoded(entry.text)

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
        """Stores a decision. Returns whether it was stored. See ``RustPolicyCache``."""
        if not self.enabled:
            return False
        try:
            names = self._names(user_id, action, resource, context)
            if names is None:
                return False
            text, ttl = self._prepared(decision, ttl_seconds, sensitivity)
            if self._skips():
                return False
            if text is None or ttl == 0:
                await self._server().delete(names.entry)
                self._breaker.answered()
                return False
            state = await self._admitted_state(names, token)
            self._breaker.answered()
            if state is None:
                self._metrics.refused += 1
                return False
            ttl = min(ttl, GENERATION_TTL_SECONDS)
            # If something is invalidated from now on, the entry carries a generation that is no longer current.
            await self._server().set(names.entry, sealed(state, ttl, text), px=max(1, int(ttl * 1000)))
        except Exception as error:
            self._failed("set", error)
            return False
        return True

    async def _admitted_state(self, names: Names, token: Token | None) -> bytes | None:
        """Returns what the entry has to carry, or None if something that covers it was invalidated."""
        pipe = self._server().pipeline(transaction=False)
        pipe.exists(names.recent, names.recent_user, names.recent_entry)
        pipe.mget(names.everything, names.user, names.deletion)
        recent, (everything, user, deleted) = await pipe.execute()
        if token is None and (recent or monotonic() - self._revised < self.max_evaluation_seconds):
            return None
        if everything is None or user is None:
            if token is not None:
                return None
            everything, user = await self._make_generations(names)
        state = self._state(everything, user, deleted)
        return state if token is None or token.state == state else None

    # Invalidating.

    async def delete(self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None) -> bool:
        """Forgets one decision. Returns whether there was one. Evaluations of it that are under way are not stored."""
        names = self._names(user_id, action, resource, context)
        if names is None:
            await self.clear()
            return False
        pipe = self._server().pipeline(transaction=True)
        pipe.delete(names.entry)
        # Entries and tokens without this generation, or with another one, are void.
        self._queue_replacement(pipe, names.deletion, names.recent_entry, DELETION_TTL_SECONDS)
        return bool((await pipe.execute())[0])

    async def clear(self) -> bool:
        """Forgets everything, for all clients of the server. O(1): old entries stay there until they expire."""
        await self._replace(f"{self.KEY_PREFIX}:generation", f"{self.KEY_PREFIX}:recent")
        return True

    async def clear_all(self) -> bool:
        """Does the same as ``clear``."""
        return await self.clear()

    async def invalidate(
        self, user_id: str | None = None, action: str | None = None, resource: str | None = None
    ) -> int:
        """Forgets all decisions on a user, for all clients of the server. Without a user id, forgets everything."""
        names = self._names(user_id, "", "", None) if isinstance(user_id, str) else None
        if names is None:
            await self.clear()
        else:
            await self._replace(names.user, names.recent_user)
        return 1

    async def invalidate_pattern(self, pattern: str) -> int:
        """Forgets everything: it can't be told which requests a pattern over readable keys means."""
        self._log.debug("policy cache: everything is invalidated for the pattern %r", pattern)
        return await self.invalidate()

    async def _replace(self, generation: str, recent: str) -> None:
        pipe = self._server().pipeline(transaction=True)
        self._queue_replacement(pipe, generation, recent, GENERATION_TTL_SECONDS)
        await pipe.execute()

    def _queue_replacement(self, pipe: Any, generation: str, recent: str, keep_seconds: int) -> None:
        pipe.set(generation, urandom(_GENERATION_BYTES), ex=keep_seconds)
        if self.max_evaluation_seconds > 0:
            pipe.set(recent, b"1", px=max(1, int(self.max_evaluation_seconds * 1000)))

    # Remaining methods.

    async def size(self) -> int:
        """Returns how many keys the server has under the prefix, including generations. Scans them: O(all keys)."""
        try:
            count = 0
            async for _key in self._server().scan_iter(match=f"{self.KEY_PREFIX}:*", count=1000):
                count += 1
        except Exception as error:
            self._failed("size", error)
            return 0
        return count

    async def get_cache_size(self) -> int:
        """Does the same as ``size``."""
        return await self.size()

    async def cleanup_expired(self) -> int:
        """Returns 0: the server reclaims expired entries itself."""
        return 0

    async def health_check(self) -> bool:
        """Returns whether the server answers."""
        try:
            healthy = bool(await self._server().ping())
            self._breaker.answered()
            return healthy
        except Exception as error:
            self._log.warning("policy cache: not healthy: %s: %s", type(error).__name__, error)
            return False

    async def explain(
        self, user_id: str, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Explanation:
        """Returns where the answer to a request would come from now, and why. Not counted."""
        revision = self._policy_revision
        names = self._names(user_id, action, resource, context)
        if names is None:
            reason = "not cacheable: something in the request is neither JSON nor bytes"
            return Explanation("evaluation", reason, None, None, None, None, None, revision, self.backend)
        token, text, remaining = await self._read(names)
        generation, entry = token.state.hex(), opened(text, token.state)
        if entry is None or not self.enabled:
            reason = "the cache is disabled" if not self.enabled else "nothing is stored under the current generations"
            return Explanation("evaluation", reason, None, names.entry, None, None, generation, revision, self.backend)
        age = None if remaining is None else entry.ttl - remaining
        decision = decoded(entry.text)
        return Explanation("cache", "stored", decision, names.entry, age, remaining, generation, revision, self.backend)

    async def close(self) -> None:
        """Closes the connections of the running loop, and cancels evaluations under way in it."""
        import asyncio

        await super().close()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _after_fork(self) -> None:
        super()._after_fork()
        # The connections belong to the parent.
        self._clients = WeakKeyDictionary()
        self._breaker = Breaker()
