"""Decides when not to ask a server: for a while after it failed to answer in time.

Without this, every request would wait as long as a connection may take, before it is evaluated after all.
"""

from __future__ import annotations

from time import monotonic

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Lets every request through until one times out, then one attempt per pause, until the server answers.

    Pauses double from ``FIRST_PAUSE_SECONDS`` to ``LONGEST_PAUSE_SECONDS``.
    """

    __slots__ = ("_pause", "_until")

    def __init__(self) -> None:
        self._until: float | None = None
        """When the next attempt is due; None while the server answers."""
        self._pause = FIRST_PAUSE_SECONDS

    def lets_through(self) -> bool:
        """Returns whether to ask the server.

        A caller that is let through then reports how it went. If it can't, the next one does.
        """
        if self._until is None:
            return True
        now = monotonic()
        if now < self._until:
            return False
        # No other caller tries before the outcome of this attempt is known.
        self._pause_from(now)
        return True

    def timed_out(self) -> None:
        """Records that the server didn't answer in time."""
        # Many callers that asked at once time out together. That is one failure.
        if self._until is None:
            self._pause_from(monotonic())

    def answered(self) -> None:
        """Records that the server answered."""
        self._until = None
        self._pause = FIRST_PAUSE_SECONDS

    def _pause_from(self, now: float) -> None:
        self._until = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
