"""Generations: how decisions are invalidated at once, without looking for them.

There is a generation of everything and one of each user, random 128-bit values. They go into the key of an entry, as
they were before its evaluation began. Replacing one makes all entries under the old one unreachable, including those
that an evaluation still under way will store; they age out of the engine like anything else. So nothing here scans, and
no error of an engine can bring an invalidated decision back.

This room never touches an engine. It never under-invalidates: where it forgets something to stay small, it makes more
unreachable than was asked for.
"""

from __future__ import annotations

from os import urandom
from threading import RLock
from time import monotonic
from typing import NamedTuple

from sark_cache.policy.keys import encode

State = tuple[bytes, dict[bytes, bytes]]
"""The generation of everything, and those of users (by encoded id) that were ever invalidated under it."""

MOST_USERS = 1 << 16
"""So many users have a generation of their own. When there would be more, everything gets a new one instead."""

MOST_DELETED = 1 << 12
"""So many deleted keys are remembered for evaluations under way. Before, all keys count as deleted."""


class Token(NamedTuple):
    """What was valid when a look-up missed. Given to ``set``, it lets the decision in only if that still holds."""

    state: bytes
    """The generation of everything, and that of the user, one after the other."""
    deletions: int
    """How many deletions of single keys there had been."""


class Generations:
    """The generations of one cache, and which of its keys were deleted lately. All methods are O(1) and thread-safe.

    >>> generations = Generations()
    >>> before = generations.token("alice")
    >>> generations.replace_user("alice")
    >>> generations.token("alice") == before, generations.token("bob") == generations.token("bob")
    (False, True)
    """

    __slots__ = (
        "_deleted",
        "_everything_replaced",
        "_forgotten",
        "_last",
        "_lock",
        "_user_replaced",
        "deletions",
        "state",
    )

    def __init__(self) -> None:
        self.state: State = (urandom(16), {})
        """Read it once per operation: the two parts belong together."""
        self.deletions = 0
        """How many single keys were deleted so far."""
        self._lock = RLock()
        self._everything_replaced = self._last = float("-inf")
        self._user_replaced: dict[bytes, float] = {}
        # By key, oldest first: the number of the deletion, and when it was.
        self._deleted: dict[str, tuple[int, float]] = {}
        # The last deletion that is no longer remembered by key.
        self._forgotten: tuple[int, float] = (0, float("-inf"))

    def replace_everything(self) -> None:
        """Makes every entry unreachable, and every token void."""
        with self._lock:
            # The time first: whoever sees the new generation also sees that it is new.
            self._everything_replaced = self._last = monotonic()
            # A new pair, never the old dict emptied: a reader holds both parts of the old one, or both of the new.
            self.state = (urandom(16), {})
            self._user_replaced = {}

    def replace_user(self, user_id: str) -> None:
        """Makes every entry of a user unreachable, and every token of that user void."""
        user = encode(user_id, "user_id")
        with self._lock:
            users = self.state[1]
            if len(users) >= MOST_USERS and user not in users:
                return self.replace_everything()
            self._user_replaced[user] = self._last = monotonic()
            users[user] = urandom(16)

    def delete(self, key: str) -> None:
        """Notes that one key was invalidated. To be called before it is removed from the engine."""
        with self._lock:
            self.deletions += 1
            self._last = monotonic()
            self._deleted.pop(key, None)
            self._deleted[key] = (self.deletions, self._last)
            if len(self._deleted) > MOST_DELETED:
                self._forgotten = self._deleted.pop(next(iter(self._deleted)))

    def token(self, user_id: object) -> Token:
        """To be taken before an evaluation begins.

        Raises:
            Uncacheable: if the id can't be part of a key.
        """
        # In this order: a deletion between the two makes the token older than it, not newer.
        deletions = self.deletions
        return Token(combined(self.state, user_id), deletions)

    def admits(self, token: Token, state: State, user_id: object, key: str) -> bool:
        """Whether nothing that covers ``key`` was invalidated since the token was taken."""
        return token.state == combined(state, user_id) and not self.deleted_since(token.deletions, key)

    def deleted_since(self, deletions: int, key: str) -> bool:
        """Whether ``key`` was deleted, or may have been, after the first so many deletions."""
        if deletions == self.deletions:
            return False
        return max(self._deleted.get(key, self._forgotten)[0], self._forgotten[0]) > deletions

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing at all was invalidated during the last so many seconds."""
        return monotonic() - self._last >= seconds

    def invalidated_within(self, seconds: float, user_id: object, key: str) -> bool:
        """Whether anything that covers ``key`` was invalidated during the last so many seconds."""
        since = monotonic() - seconds
        user = self._user_replaced.get(encode(user_id, "user_id"), float("-inf"))
        deleted = max(self._deleted.get(key, self._forgotten)[1], self._forgotten[1])
        return max(self._everything_replaced, user, deleted) > since


def combined(state: State, user_id: object) -> bytes:
    """The two generations that decide about a user's entries."""
    everything, users = state
    return everything + users.get(encode(user_id, "user_id"), b"") if users else everything
