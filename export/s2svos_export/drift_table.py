"""The drift report as one table on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from s2svos_export.drift import DriftReport


def print_drift(report: DriftReport, console: Console | None = None) -> None:
    """Prints IoU for each precision and engine, and below it the error of every tensor."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("\n", overflow="fold")
    headings = (
        *("mean\nIoU", "\nworst", "on\nframe", f"first <\n{report.threshold:g}"),
        *("free-run\nRMS %", "\nmax %", "one call\nRMS %", "\nmax %"),
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for drift in report.drifts:
        below = drift.first_below(report.threshold)
        figures = [f"{drift.mean_iou:.4f}", f"{drift.worst_iou:.3f}", str(drift.worst_frame)]
        table.add_row(drift.label, *figures, str(below[0]) if below else "-", style="bold")
        for name in report.scale:
            free, forced = drift.free.tensors[name], drift.forced.tensors[name]
            errors = (free.overall, free.largest, forced.overall, forced.largest)
            table.add_row(f"  {name}", *[""] * 4, *map(_percent, errors))
    console = console or Console()
    console.print(table)
    console.print(
        f"Against PyTorch fp32 over {report.frames} frames of {report.source}, "
        f"{len(report.objects)} object(s), which PyTorch sees {report.seen:.0%} of the time. "
        "Errors are in percent of a tensor's RMS over the clip; one call starts from PyTorch's "
        "state.",
        highlight=False,
    )


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.001:
        return "<0.001"
    return f"{percent:.0f}" if 10 <= percent < math.inf else f"{percent:.2g}"
