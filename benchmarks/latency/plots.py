"""Plots rendered from results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.latency.records import Row, SuiteResult, once

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"s2svos": "#2a6f97", "bare": "#a9a9a9", "peer": "#e07a3f"}


def draw(results: Sequence[SuiteResult], folder: Path) -> list[Path]:
    """Draw one picture of each result: the steps' medians, with p99 and IoU.

    Counts of objects and of streams have axes of their own, or the longest would hide the others.

    Raises:
        UserError: matplotlib is not installed.
    """
    from s2svos.extras import needs

    with needs("train"):
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    paths = []
    for number, result in enumerate(results):
        panels = _panels(result)
        heights = [len(rows) + 1.5 for rows in panels.values()]
        figure = Figure(figsize=(10, 1 + 0.28 * sum(heights)), layout="constrained")
        every = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
        for axes, (name, rows) in zip(every, panels.items(), strict=True):
            _bars(axes, rows)
            axes.set_title(name, fontsize=9, loc="left")
        every[-1].set_xlabel("median ms a step; line: its 95 % interval, tick: p99")
        machine = result["environment"]
        title = f"{result['preset']} {result['size'][0]}x{result['size'][1]}, {machine['cpu']}"
        title = f"{title}, {result['threads']} threads, {machine['time'][:10]}"
        figure.suptitle(title, fontsize=10)
        names = {"s2svos": "s2svos", "bare": "bare engine call", "peer": "peers"}
        every[0].legend(
            handles=[Patch(color=COLOURS[kind], label=name) for kind, name in names.items()],
            fontsize=8,
        )
        path = folder / f"latency-{number}-{result['preset']}.png"
        figure.savefig(path, dpi=110)
        paths.append(path)
    return paths


def _panels(result: SuiteResult) -> dict[str, list[Row]]:
    """Return the rows of each count of streams and objects, the fewest and the fastest first."""
    panels: dict[str, list[Row]] = {}
    for row in sorted(
        once(result),
        key=lambda row: (row["streams"], row["objects"], row["percentiles"]["p50"]["ms"]),
    ):
        name = f"{row['objects']} object" + ("s" if row["objects"] > 1 else "")
        if row["streams"] > 1:
            name = f"{row['streams']} streams; batched and in turn: a step is a frame of each"
        panels.setdefault(name, []).append(row)
    return panels


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        median, tail = row["percentiles"]["p50"], row["percentiles"]["p99"]
        axes.barh(place, median["ms"], color=COLOURS[row["kind"]], height=0.7)
        axes.plot([median["low"], median["high"]], [place] * 2, color="black", linewidth=1.5)
        if tail:
            axes.plot(tail["ms"], place, "|", color="black", markersize=9)
        end = max(median["high"], tail["ms"] if tail else 0)
        digits = 1 if median["ms"] < 100 else 0
        text = f"  {median['ms']:.{digits}f} ms, IoU {row['iou']['mean']:.4f}"
        axes.text(end, place, text, va="center", fontsize=8)
    names = [f"{row['contestant']} {row['precision']}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.3 * axes.get_xlim()[1])  # with room for the words behind the longest
    axes.spines[["top", "right"]].set_visible(False)
