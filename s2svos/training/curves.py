"""Training curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from s2svos.files import written_beside

SMOOTHING = 50  # steps of the moving mean


def draw_curves(history: Path, out: Path) -> None:
    """Draws loss and J over the steps of ``history.csv`` into a PNG, if there is a step.

    Args:
        history: the file; J and F of the validation are drawn where it holds them.
        out: the PNG; replaced once the new one is whole.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    steps = np.array([int(row["step"]) for row in rows])
    judged = [row for row in rows if row.get("validation_j")]
    window = min(SMOOTHING, len(rows))
    kernel = np.ones(window) / window
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for axis, key, title in zip(axes, ("loss", "jaccard"), ("Loss", "J"), strict=True):
        values = np.array([float(row[key]) for row in rows])
        axis.plot(steps, values, color="0.85", linewidth=0.5)
        smooth = np.convolve(values, kernel, "valid")
        axis.plot(steps[window - 1 :], smooth, color="C0", label=f"{title} on training clips")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    for key, colour in (("validation_j", "C1"), ("validation_f", "C2")) if judged else ():
        at = [int(row["step"]) for row in judged]
        label = f"validation {key[-1].upper()}"
        axes[1].plot(at, [float(row[key]) for row in judged], ".-", color=colour, label=label)
    axes[1].legend()
    with written_beside(out) as part:
        figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)
