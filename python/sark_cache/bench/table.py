"""The report for people: a table on standard output, and a progress bar on standard error. Uses rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .report import Report, Row


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Shows a progress bar over ``total`` cases, on a terminal only.

    Yields the function to call when a case begins.
    """
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Starts at -1, because the bar is advanced when a case begins, not when one is done.
        task = bar.add_task("", total=total, completed=-1)
        yield lambda case: bar.update(task, description=case, advance=1)


def show(report: Report) -> None:
    """Prints the report."""
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe, the table is as wide as it needs to be.
        console = Console(width=160)
    about = report.machine
    console.print(
        f"{about['cpu']}, {about['cores']} CPUs, {about['os']}, {about['python']}; {report.rounds} rounds, interleaved"
    )
    console.print(
        "ns per operation, its loop taken off; ahead = its time / ours, round by round, above 1 ours is faster"
    )

    table = Table("case", "contestant", pad_edge=False)
    for heading in ("ns/op", "min..max", "p95", "ahead", "hit ratio", "own threads"):
        table.add_column(heading, justify="right")
    last = None
    for row in report.rows:
        if last is not None and row.case != last:
            table.add_section()
        table.add_row(row.case if row.case != last else "", row.contestant, *_figures(row))
        last = row.case
    console.print(table)

    if report.absent:
        absent = Table("absent", "why", "cases", pad_edge=False)
        cases: dict[tuple[str, str], int] = {}
        for missing in report.absent:
            cases[missing.contestant, missing.why] = cases.get((missing.contestant, missing.why), 0) + 1
        for (contestant, why), count in cases.items():
            absent.add_row(contestant, why, str(count))
        console.print(absent)
    console.print(", ".join(f"{name} {version}" for name, version in report.versions.items()))


def _figures(row: Row) -> tuple[str, ...]:
    time, p95, ahead = row.ns_per_op, row.p95_ns, row.ours_ahead
    return (
        f"{time.median:,.1f}",
        f"{time.min:,.1f}..{time.max:,.1f}",
        "" if p95 is None else f"{p95.median:,.0f}",
        "" if ahead is None else f"{ahead.median:.2f} ({ahead.min:.2f}..{ahead.max:.2f})",
        "" if row.hit_ratio is None else f"{row.hit_ratio:.3f}",
        "" if row.threads_owned is None else str(row.threads_owned),
    )
