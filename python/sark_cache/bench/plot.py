"""The report as a picture: a panel for each case, a bar for each contestant, and time on a logarithmic axis.

Uses matplotlib.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

from .report import Report, Row

matplotlib.use("agg")

from matplotlib import pyplot  # noqa: E402  (it takes the backend chosen above)

_COLUMNS = 4
_OURS, _THEIRS = "#c0392b", "#7f8c8d"


def draw(report: Report, file: Path) -> None:
    """Writes the picture. The extension of the file's name determines the format."""
    panels: dict[str, list[Row]] = {}
    for row in report.rows:
        panels.setdefault(row.case, []).append(row)
    columns = min(_COLUMNS, max(len(panels), 1))
    lines = max(math.ceil(len(panels) / columns), 1)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4.2 * columns, 2.6 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, (case, rows) in zip(axes.flat, panels.items(), strict=False):
        axis.set_visible(True)
        axis.set_title(case, fontsize=7)
        # A logarithmic axis can't show zero.
        times = [max(row.ns_per_op.median, 0.1) for row in rows]
        colours = [_OURS if row.contestant.startswith("sark-cache") else _THEIRS for row in rows]
        bars = axis.barh([row.contestant for row in rows], times, color=colours)
        axis.bar_label(bars, [f"{time:,.0f}" for time in times], fontsize=6, padding=2)
        axis.set_xscale("log")
        axis.invert_yaxis()
        axis.tick_params(labelsize=6)
        axis.margins(x=0.2)
    figure.suptitle(
        f"ns per operation, less is better ({report.machine['cpu']}, {report.machine['python']})", fontsize=9
    )
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
