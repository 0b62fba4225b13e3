"""The figures of ``policy`` for people: a table (rich) and a picture (matplotlib)."""

from __future__ import annotations

import math
from pathlib import Path

from .policy import BUSY, FACT, OURS, QUIET, PolicyReport, Row


def show(report: PolicyReport) -> None:
    """Prints the report."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    about = report.machine
    console.print(
        f"{about['cpu']}, {about['cores']} CPUs, {about['os']}, {about['python']}; {report.rounds} rounds, interleaved"
    )
    console.print("microseconds per decision, whole awaited calls; x = Redis over ours, in the same run")
    table = Table("case", "where", "beside", pad_edge=False)
    for heading in ("lap", "p50", "in json.loads", "p95", "p99", "x p50", "x p95"):
        table.add_column(heading, justify="right")
    loads = {row.beside: row.p50 for row in report.rows if row.case == "json.loads"}
    for row in sorted(report.rows, key=lambda row: (_order(report, row), row.beside != QUIET)):
        table.add_row(
            row.case,
            row.contestant,
            row.beside,
            _micros(row.lap.median),
            _micros(row.p50),
            f"{row.p50 / loads[row.beside]:.2f}",
            _micros(row.p95),
            _micros(row.p99),
            *("" if ahead is None else f"{ahead:,.0f}" for ahead in (row.ahead_p50, row.ahead_p95)),
        )
    console.print(table)
    for absent in report.absent:
        console.print(f"absent: {absent}")


def _order(report: PolicyReport, row: Row) -> int:
    cases = [other.case for other in report.rows]
    return cases.index(row.case)


def _micros(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:,.2f}"


def draw(report: PolicyReport, file: str | Path) -> None:
    """Draws p50, p95 and p99 of each contestant for each case, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = [row for row in report.rows if row.contestant != FACT]
    cases = list(dict.fromkeys(row.case for row in rows))
    columns = 3
    lines = math.ceil(len(cases) / columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5 * columns, 3 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, case in zip(axes.flat, cases, strict=False):
        axis.set_visible(True)
        axis.set_title(case, fontsize=9)
        for row in (row for row in rows if row.case == case):
            style = "--" if row.beside == BUSY else "-"
            colour = "#c0392b" if row.contestant == OURS else "#7f8c8d"
            times = [time / 1000 for time in (row.p50, row.p95, row.p99)]
            axis.plot(
                ["p50", "p95", "p99"], times, style, marker="o", color=colour, label=f"{row.contestant}, {row.beside}"
            )
        axis.set_yscale("log")
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6)
    figure.suptitle(
        f"microseconds per decision, less is better ({report.machine['cpu']}, {report.machine['python']})", fontsize=10
    )
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
