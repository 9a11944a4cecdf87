"""Training curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SMOOTHING = 50  # steps of the moving mean


def draw_curves(history: Path, out: Path) -> None:
    """Draws loss and J over the steps of ``history.csv`` into a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = np.array([int(row["step"]) for row in rows])
    window = min(SMOOTHING, len(rows))
    kernel = np.ones(window) / window
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for axis, key, title in zip(
        axes, ("loss", "jaccard"), ("Loss", "J on training clips"), strict=True
    ):
        values = np.array([float(row[key]) for row in rows])
        axis.plot(steps, values, color="0.85", linewidth=0.5)
        axis.plot(steps[window - 1 :], np.convolve(values, kernel, "valid"), color="C0")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
