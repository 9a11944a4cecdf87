"""The drift report for people: a table on the terminal, and a picture."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from s2svos_export.drift import Drift, DriftReport, Errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"fp32": "C0", "fp16": "C2", "bf16": "C4", "int8": "C3"}
# By engine. Two engines often agree to the pixel: the wide line shows below the narrow one.
LINES: tuple[dict[str, Any], ...] = (
    {"linewidth": 3.0, "alpha": 0.35},
    {"linewidth": 1.0},
    {"linewidth": 1.0, "linestyle": "--"},
)
PERFECT = 1e-4  # 1 - IoU that is drawn as no difference; a pixel of 5,000 is 2e-4
PANELS = 3  # side by side


def print_drift(report: DriftReport, console: Console | None = None) -> None:
    """Print IoU for each precision and engine, and below it the error of every tensor."""
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
            free = drift.free_running.tensors[name]
            forced = drift.teacher_forced.tensors[name]
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


def draw_drift(report: DriftReport) -> bytes:
    """Return a PNG with IoU over the frames, and below it the errors of masks and states."""
    # Not by way of pyplot, whose figures and backend belong to the caller's process.
    from matplotlib.figure import Figure

    rows = math.ceil(len(report.scale) / PANELS)
    figure = Figure(figsize=(12, 3.6 + 2.5 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, PANELS, height_ratios=[1.5, *[1.0] * rows])
    engines = sorted({drift.engine for drift in report.drifts})
    top = figure.add_subplot(grid[0, :])
    for drift in report.drifts:
        _line(top, drift, drift.free_running, engines, _missed(drift.free_running), drift.label)
        _dots(top, drift, drift.teacher_forced, _missed(drift.teacher_forced))
    _scale_by_nines(top, report)
    for panel, name in enumerate(report.scale):
        axis = figure.add_subplot(grid[1 + panel // PANELS, panel % PANELS])
        for drift in report.drifts:
            _line(axis, drift, drift.free_running, engines, _rms(drift.free_running, name))
            _dots(axis, drift, drift.teacher_forced, _rms(drift.teacher_forced, name))
        axis.set_yscale("log", nonpositive="mask")
        axis.set(title=name, xlim=(0, report.frames))
        if panel % PANELS == 0:
            axis.set_ylabel("RMS error / RMS")
        if panel + PANELS >= len(report.scale):
            axis.set_xlabel("frame")
        axis.grid(alpha=0.3)
    _add_legend(figure, top)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    return picture.getvalue()


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.001:
        return "<0.001"
    return f"{percent:.0f}" if 10 <= percent < math.inf else f"{percent:.2g}"


def _missed(errors: Errors) -> list[float]:
    """Return 1 - IoU of the worst object in each call."""
    return [max(1 - min(row), PERFECT) for row in errors.iou]


def _rms(errors: Errors, name: str) -> list[float]:
    return [rms if 0 < rms < math.inf else math.nan for rms in errors.tensors[name].rms]


def _line(
    axis: Axes,
    drift: Drift,
    errors: Errors,
    engines: list[str],
    values: list[float],
    label: str | None = None,
) -> None:
    colour = COLOURS.get(drift.precision, "0.4")
    style = LINES[engines.index(drift.engine) % len(LINES)]
    if drift.graph != "step":
        style = {**style, "linestyle": ":"}
    axis.plot(errors.frames, values, color=colour, label=label, **style)


def _dots(axis: Axes, drift: Drift, errors: Errors, values: list[float]) -> None:
    colour = COLOURS.get(drift.precision, "0.4")
    axis.plot(errors.frames, values, ".", color=colour, markersize=4, alpha=0.7)


def _scale_by_nines(axis: Axes, report: DriftReport) -> None:
    """Give an axis of 1 - IoU a scale on which 0.9, 0.99 and 0.999 are equally far apart."""
    axis.set_yscale("log")
    axis.set(ylim=(1.3, PERFECT * 0.8), xlim=(0, report.frames), xlabel="frame")
    axis.set_yticks([1, 0.5, 0.1, 0.02, 0.01, 0.001, PERFECT])
    axis.set_yticklabels(["0", "0.5", "0.9", "0.98", "0.99", "0.999", "1"])
    axis.minorticks_off()
    label = f"threshold {report.threshold:g}"
    axis.axhline(1 - report.threshold, color="0.6", linewidth=0.8, label=label)
    axis.set_ylabel("IoU of the worst object")
    axis.set_title(
        f"Against PyTorch fp32: {report.source}, {report.frames} frames, "
        f"{len(report.objects)} object(s)"
    )
    axis.grid(alpha=0.3)


def _add_legend(figure: Figure, top: Axes) -> None:
    top.plot([], [], ".", color="0.4", label="teacher-forced: one call from PyTorch's state")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
