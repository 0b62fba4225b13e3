"""What a forked child must not inherit: decisions, evaluations under way, and tasks of a loop that it doesn't have.

Objects registered here are notified in the child right after the fork. Registration doesn't keep them alive.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object that starts anew in a forked child."""

    def _after_fork(self) -> None: ...


_registered: WeakSet[Forkable] = WeakSet()


def register(forkable: Forkable) -> None:
    """Has ``forkable._after_fork()`` called in every child forked while it is alive. It must not raise."""
    _registered.add(forkable)


def _in_child() -> None:
    for forkable in list(_registered):
        forkable._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
