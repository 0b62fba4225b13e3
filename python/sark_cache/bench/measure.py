"""Laps, rounds and ratios: the same work for every contestant, in turn, over and over.

Rounds run A B C A B C, so that a slow minute of the machine affects all contestants alike. They are compared
within each round, before any median is taken. This module doesn't know what is measured.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from . import machine


@dataclass(frozen=True)
class Effort:
    """How long and how often to measure."""

    rounds: int
    operations: int
    """Operations of a full lap."""
    budget: float
    """Seconds after which a lap is too long: a contestant that needs more does fewer operations."""


# Many short rounds rather than few long ones: other load on the machine comes and goes within seconds.
FULL = Effort(rounds=15, operations=100_000, budget=0.05)
QUICK = Effort(rounds=5, operations=20_000, budget=0.01)


@dataclass(frozen=True)
class Lap:
    """One run of one contestant."""

    operations: int
    elapsed_ns: int
    """The total time, including the loop around the operations."""
    loop_ns: int
    """The time of the same loop over the same keys with an empty body."""
    p95_ns: float | None = None
    """The time within which 95 of 100 operations were done, if each was timed separately.

    ``elapsed_ns`` is then the median operation times their number, and ``loop_ns`` what reading the clock
    takes.
    """

    @property
    def ns_per_op(self) -> float:
        """Nanoseconds that the operation itself takes."""
        return max(self.elapsed_ns - self.loop_ns, 0) / self.operations


class Work(Protocol):
    """What one contestant does in one case."""

    def run(self, operations: int) -> Lap:
        """Does this many operations, or a few more where they come in batches."""
        ...

    def hit_ratio(self) -> float | None:
        """Returns the hit ratio of its look-ups, found while no clock is running, or None if it has none."""
        ...

    def close(self) -> None:
        """Called once, after the last lap."""
        ...


@dataclass
class Entrant:
    """A contestant in a case, with its laps so far."""

    name: str
    work: Work
    operations: int
    threads_owned: int | None
    laps: list[Lap] = field(default_factory=list)
    full_run: bool = True

    def calibrate(self, effort: Effort) -> None:
        """Finds out how many operations fit the budget, by laps of growing length. This also warms the cache up."""
        budget_ns = effort.budget * 1e9
        operations = 8
        while True:
            lap = self.work.run(operations)
            if operations >= effort.operations or lap.elapsed_ns > budget_ns / 8:
                break
            operations = min(operations * 4, effort.operations)
        affordable = int(budget_ns / max(lap.elapsed_ns / lap.operations, 1))
        self.operations = max(1, min(effort.operations, affordable))
        self.full_run = self.operations == effort.operations


def enter(name: str, prepare: Callable[[], Work]) -> Entrant:
    """Prepares a contestant's work, and counts the threads that it starts."""
    before = machine.thread_count()
    work = prepare()
    after = machine.thread_count()
    owned = None if before is None or after is None else max(after - before, 0)
    return Entrant(name, work, operations=0, threads_owned=owned)


def interleave(entrants: list[Entrant], rounds: int) -> None:
    """Runs all entrants in turn, ``rounds`` times."""
    for _ in range(rounds):
        for entrant in entrants:
            # So that no contestant pays for another's garbage. The collector stays on: it is part of what
            # users get.
            gc.collect()
            entrant.laps.append(entrant.work.run(entrant.operations))


@dataclass(frozen=True)
class Spread:
    """The median and the extremes of some measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the spread of at least one value."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


def ratios(theirs: list[Lap], ours: list[Lap]) -> Spread | None:
    """Returns times of ``theirs`` over times of ``ours``, by round, or None if ours took no measurable time."""
    pairs = [(their.ns_per_op, our.ns_per_op) for their, our in zip(theirs, ours, strict=True)]
    if not pairs or any(our == 0 for _, our in pairs):
        return None
    return Spread.of(their / our for their, our in pairs)
