"""Plots rendered from results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency.records import Heat, label, once

COLOURS = {"s2svos": "#2a6f97", "bare": "#a9a9a9", "peer": "#e07a3f"}


def draw(heats: Sequence[Heat], folder: Path) -> list[Path]:
    """One picture of each heat: the steps' medians, with p99 and IoU.

    Raises:
        UserError: matplotlib is not installed.
    """
    from s2svos.commands.extras import needs

    with needs("train"):
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    paths = []
    for number, heat in enumerate(heats):
        rows = sorted(once(heat), key=lambda row: row["percentiles"]["p50"]["ms"])
        figure = Figure(figsize=(10, 1.2 + 0.28 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
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
        axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=8)
        axes.set_ylim(len(rows), -1)
        axes.set_xlim(0, 1.3 * axes.get_xlim()[1])  # with room for the words behind the longest
        axes.set_xlabel("median ms a step; line: its 95 % interval, tick: p99")
        machine = heat["environment"]
        title = f"{heat['preset']} {heat['size'][0]}x{heat['size'][1]}, {machine['cpu']}"
        axes.set_title(f"{title}, {heat['threads']} threads, {machine['time'][:10]}", fontsize=10)
        names = {"s2svos": "s2svos", "bare": "bare engine call", "peer": "peers"}
        axes.legend(
            handles=[Patch(color=COLOURS[kind], label=name) for kind, name in names.items()],
            fontsize=8,
        )
        axes.spines[["top", "right"]].set_visible(False)
        path = folder / f"latency-{number}-{heat['preset']}.png"
        figure.savefig(path, dpi=110)
        paths.append(path)
    return paths
