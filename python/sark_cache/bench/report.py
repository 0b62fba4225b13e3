"""The results: rows of figures, as one object that can be written as JSON. Table and plot read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from . import machine
from .measure import Entrant, Spread, ratios


@dataclass(frozen=True)
class Row:
    """One contestant in one case."""

    case: str
    contestant: str
    ns_per_op: Spread
    """For the operation alone; the loop around it is ``loop_ns``."""
    p95_ns: Spread | None
    """Present if each operation was timed separately; then ``ns_per_op`` is their p50."""
    loop_ns: float
    ops_per_s: float | None
    """From the median; None if the operation's time couldn't be told from the loop's."""
    ours_ahead: Spread | None
    """Its time over ours, round by round: above 1 we are faster. None for ours, and if ours did not run."""
    hit_ratio: float | None
    threads_owned: int | None
    operations: int
    full_run: bool
    """False if it was too slow for a full lap and did fewer operations than the others."""


@dataclass(frozen=True)
class Missing:
    """A contestant that did not take part."""

    case: str
    contestant: str
    why: str


@dataclass
class Report:
    """Everything that one run of the program found out."""

    scenario: str
    arguments: list[str]
    rounds: int
    machine: dict[str, object] = field(default_factory=machine.describe)
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    absent: list[Missing] = field(default_factory=list)

    def miss(self, case: str, contestant: str, why: str) -> None:
        """Records a contestant that can't take part."""
        self.absent.append(Missing(case, contestant, why))

    def take(self, case: str, entrants: list[Entrant], ours: str) -> None:
        """Adds the figures of a case whose rounds are over."""
        our_laps = next((entrant.laps for entrant in entrants if entrant.name == ours), None)
        for entrant in entrants:
            spread = Spread.of(lap.ns_per_op for lap in entrant.laps)
            p95 = [lap.p95_ns for lap in entrant.laps if lap.p95_ns is not None]
            self.rows.append(
                Row(
                    case=case,
                    contestant=entrant.name,
                    ns_per_op=spread,
                    p95_ns=Spread.of(p95) if p95 else None,
                    loop_ns=Spread.of(lap.loop_ns / lap.operations for lap in entrant.laps).median,
                    ops_per_s=1e9 / spread.median if spread.median else None,
                    ours_ahead=None if our_laps is None or entrant.name == ours else ratios(entrant.laps, our_laps),
                    hit_ratio=entrant.work.hit_ratio(),
                    threads_owned=entrant.threads_owned,
                    operations=min(lap.operations for lap in entrant.laps),
                    full_run=entrant.full_run,
                )
            )

    def to_json(self) -> str:
        """Returns the report as one JSON object."""
        return json.dumps(asdict(self))
