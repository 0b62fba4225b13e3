"""The command that compares caches: reads the options, runs the cases, and has the report shown."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import machine, measure
from .contestants import CONTESTANTS, OURS, Absent, Contestant
from .report import Report
from .scenarios import Case, cases


def main(arguments: list[str]) -> int:
    """Runs the command. The results go to standard output."""
    options = _parser().parse_args(arguments)
    chosen = [case for case in cases() if _matches(case, options.case)]
    if not chosen:
        print(f"no case is {_spelled(options.case)}; there are:", *cases(), sep="\n  ", file=sys.stderr)
        return 2
    effort = measure.QUICK if options.quick else measure.FULL
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    report = Report("caches", arguments, effort.rounds)
    try:
        # Checked before anything is measured, so that a missing package is reported at once, not after minutes.
        plot = importlib.import_module("sark_cache.bench.plot") if options.plot else None
        table = None if options.json else importlib.import_module("sark_cache.bench.table")
    except ImportError as missing:
        print(f"{missing}: pip install 'sark-cache[bench]', or ask for --json alone", file=sys.stderr)
        return 1
    if table is None:
        _run(chosen, options.contestants, effort, report, lambda case: None)
        print(report.to_json())
    else:
        with table.progress(len(chosen)) as tell:
            _run(chosen, options.contestants, effort, report, tell)
        table.show(report)
    if plot is not None:
        plot.draw(report, options.plot)
    return 0


def _run(
    chosen: list[Case], names: list[str], effort: measure.Effort, report: Report, tell: Callable[[str], None]
) -> None:
    """Runs the cases and adds them to the report. ``tell`` is called with each case when it begins."""
    present: dict[str, Contestant] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            contestant = present[name] = CONTESTANTS[name]()
        except Absent as why:
            reasons[name] = str(why)
            continue
        version = contestant.distribution and machine.version_of(contestant.distribution)
        if contestant.distribution and version:
            report.versions[contestant.distribution] = version

    for case in chosen:
        tell(str(case))
        for name, reason in reasons.items():
            report.miss(str(case), name, reason)
        entrants: list[measure.Entrant] = []
        try:
            for name, contestant in present.items():
                try:
                    entrants.append(measure.enter(name, partial(case.prepare, contestant)))
                except Absent as why:
                    report.miss(str(case), name, str(why))
            for entrant in entrants:
                entrant.calibrate(case.effort(effort))
            measure.interleave(entrants, effort.rounds)
            report.take(str(case), entrants, OURS)
        finally:
            for entrant in entrants:
                entrant.work.close()


def _matches(case: Case, wanted: dict[str, list[str]]) -> bool:
    words = case.words()
    return all(words.get(name) in values for name, values in wanted.items())


def _spelled(wanted: dict[str, list[str]]) -> str:
    return ",".join(f"{name}={'|'.join(values)}" for name, values in wanted.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sark_cache.bench",
        description="Compares caches that Python can import, on this machine. Other work shows in the figures.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--quick", action="store_true", help="shorter laps and fewer rounds of the same work")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the figures into FILE (.png, .svg, .pdf)")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="how many times each contestant runs")
    parser.add_argument(
        "--contestants",
        type=_names,
        default=list(CONTESTANTS),
        metavar="A,B",
        help=f"some of: {', '.join(CONTESTANTS)}",
    )
    parser.add_argument(
        "--case", type=_filter, default={}, metavar="WORDS", help='only such cases: --case "op=get-hit|set,ttl=off"'
    )
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in CONTESTANTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(CONTESTANTS)}")
    return names


def _filter(text: str) -> dict[str, list[str]]:
    wanted = {}
    for word in text.split(","):
        name, equals, values = word.partition("=")
        if not (name and equals and values):
            raise argparse.ArgumentTypeError(f"{word!r} is not of the form name=value or name=value|value")
        wanted[name] = values.split("|")
    return wanted
