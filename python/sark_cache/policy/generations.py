"""Generations: how decisions are invalidated at once, without searching for them.

There is a generation of everything and one of each user, both random 128-bit values. They are part of an
entry's key, with the values they had before its evaluation began. Replacing a generation makes all entries
under the old one unreachable, including those that an evaluation still under way will store. They age out of
the engine like anything else. So nothing here scans, and no error of an engine can bring an invalidated
decision back.

This module never touches an engine. It never invalidates too little: where it forgets something to stay
small, it makes more unreachable than was asked for.
"""

from __future__ import annotations

from os import urandom
from threading import RLock
from time import monotonic
from typing import NamedTuple

from sark_cache.policy.keys import encode

State = tuple[bytes, dict[bytes, bytes]]
"""The generation of everything, and those of users (by encoded id) that were invalidated under it."""

MOST_USERS = 1 << 16
"""How many users may have a generation of their own. When there would be more, everything gets a new one instead."""

MOST_DELETED = 1 << 12
"""How many deleted keys are remembered for evaluations under way. Before those, all keys count as deleted."""


class Token(NamedTuple):
    """What was valid when a look-up missed. ``set`` admits a decision only if the token passed to it still holds."""

    state: bytes
    """The generation of everything, followed by that of the user."""
    deletions: int
    """How many single keys had been deleted."""


class Generations:
    """The generations of one cache, and which of its keys were deleted lately.

    All methods are O(1) and thread-safe.

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
        """Must be read once per operation: the two parts belong together."""
        self.deletions = 0
        """How many single keys have been deleted so far."""
        self._lock = RLock()
        self._everything_replaced = self._last = float("-inf")
        self._user_replaced: dict[bytes, float] = {}
        # By key, oldest first: the number and the time of the deletion.
        self._deleted: dict[str, tuple[int, float]] = {}
        # The latest deletion that is no longer remembered by key.
        self._forgotten: tuple[int, float] = (0, float("-inf"))

    def replace_everything(self) -> None:
        """Makes every entry unreachable, and every token void."""
        with self._lock:
            # The time comes first: a reader that sees the new generation also sees that it is new.
            self._everything_replaced = self._last = monotonic()
            # A new pair, rather than emptying the old dict: a reader holds both parts of the old pair, or
            # both of the new.
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
        """Records that one key was invalidated. Must be called before the key is removed from the engine."""
        with self._lock:
            self.deletions += 1
            self._last = monotonic()
            self._deleted.pop(key, None)
            self._deleted[key] = (self.deletions, self._last)
            if len(self._deleted) > MOST_DELETED:
                self._forgotten = self._deleted.pop(next(iter(self._deleted)))

    def token(self, user_id: object) -> Token:
        """Returns a token, which must be taken before an evaluation begins.

        Raises:
            Uncacheable: if the id can't be part of a key.
        """
        # The order matters: a deletion between the two lines makes the token older than the deletion, not
        # newer.
        deletions = self.deletions
        return Token(combined(self.state, user_id), deletions)

    def admits(self, token: Token, state: State, user_id: object, key: str) -> bool:
        """Returns whether nothing that covers ``key`` was invalidated since the token was taken."""
        return token.state == combined(state, user_id) and not self.deleted_since(token.deletions, key)

    def deleted_since(self, deletions: int, key: str) -> bool:
        """Returns whether ``key`` was deleted, or may have been, after this many deletions."""
        if deletions == self.deletions:
            return False
        return max(self._deleted.get(key, self._forgotten)[0], self._forgotten[0]) > deletions

    def quiet_for(self, seconds: float) -> bool:
        """Returns whether nothing at all was invalidated during the last ``seconds``."""
        return monotonic() - self._last >= seconds

    def invalidated_within(self, seconds: float, user_id: object, key: str) -> bool:
        """Returns whether anything that covers ``key`` was invalidated during the last ``seconds``."""
        since = monotonic() - seconds
        user = self._user_replaced.get(encode(user_id, "user_id"), float("-inf"))
        deleted = max(self._deleted.get(key, self._forgotten)[1], self._forgotten[1])
        return max(self._everything_replaced, user, deleted) > since


def combined(state: State, user_id: object) -> bytes:
    """Returns the two generations that determine whether a user's entries are reachable."""
    everything, users = state
    return everything + users.get(encode(user_id, "user_id"), b"") if users else everything
