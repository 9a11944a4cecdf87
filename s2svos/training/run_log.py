"""The log of a training for people: history, curves, TensorBoard and strips of masks."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from s2svos.network.checkpoint import GO_ON
from s2svos.training.config import TrainConfig
from s2svos.training.config_file import write_config
from s2svos.training.validation import Score
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically, written_beside

REDRAW = 30  # seconds between two pictures of the curves, which take about half of one
COLUMNS = (
    *("step", "loss", "jaccard", "learning_rate", "gradient", "seconds", "waiting", "clips"),
    *("validation_j", "validation_f"),
)
_HEAD = ",".join(COLUMNS[:3]).encode()
SMOOTHING = 50  # steps of the curves' moving mean
EVERY = 10  # steps between two points in TensorBoard
FLUSH = 20  # seconds


@dataclass(frozen=True)
class Step:
    """Figures of one optimiser step, over all devices.

    Args:
        step: its number, from 1.
        steps: of the whole training.
        loss: mean over the clips.
        jaccard: mean J of the clips, 0 to 1.
        learning_rate: of everything but the backbone.
        gradient: its norm before clipping.
        seconds: of the whole step.
        waiting: seconds of them spent waiting for the clips, on the first device.
        clips: of the step.
        validation: J and F of the averaged weights, where they were scored after this step.
    """

    step: int
    steps: int
    loss: float
    jaccard: float
    learning_rate: float
    gradient: float
    seconds: float
    waiting: float
    clips: int
    validation: tuple[float, float] | None = None


class Records:
    """The files of a run beside its checkpoints.

    ``config.yaml``; ``history.csv``, a row for each step, written out at once;
    ``loss_history.png``; ``validation/``, a picture for each; and ``tensorboard/``, for
    ``tensorboard --logdir``.

    Args:
        config: of the training.
        out: the folder.
        step: after which the run goes on; what is recorded of later ones belongs to a lost attempt.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, config: TrainConfig, out: Path, step: int) -> None:
        self.out, self._history = out, out / "history.csv"
        with disk_errors(out, again=GO_ON):
            out.mkdir(parents=True, exist_ok=True)
            kept = [row for row in _rows(self._history) if int(row[0]) <= step] if step else []
            with written_beside(self._history) as part, part.open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *kept])
            write_config(
                config, out / "config.yaml"
            )  # after what tells that this is a run's folder
            self._file = self._history.open("a", newline="", buffering=1)
            self._board = SummaryWriter(
                str(out / "tensorboard"), purge_step=step + 1, flush_secs=FLUSH
            )
        self._drawn = time.monotonic()

    def write(self, step: Step) -> None:
        """Record a step."""
        figures = (
            *(step.loss, step.jaccard, step.learning_rate, step.gradient),
            *(step.seconds, step.waiting),
        )
        scores = [f"{score:.6g}" for score in step.validation or ()] or ["", ""]
        row = [step.step, *(f"{figure:.6g}" for figure in figures), step.clips, *scores]
        with disk_errors(self.out, again=GO_ON):
            csv.writer(self._file).writerow(row)
            self._add_scalars(step)
            if time.monotonic() - self._drawn > REDRAW:
                self._draw()

    def show(self, scores: Sequence[Score], step: int) -> None:
        """Record how the videos of a validation look, one below the other."""
        page = np.concatenate([score.strip for score in scores])
        path = self.out / "validation" / f"{step:06d}.png"
        with disk_errors(self.out, again=GO_ON):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, cv2.imencode(".png", page[..., ::-1])[1].tobytes())
            self._board.add_image("validation", page, step, dataformats="HWC")

    def _add_scalars(self, step: Step) -> None:
        scalars: dict[str, float] = {}
        if step.validation:
            scalars["validation/J"], scalars["validation/F"] = step.validation
        if step.step % EVERY == 0 or step.step == step.steps:
            scalars |= {
                "training/loss": step.loss,
                "training/J": step.jaccard,
                "training/learning_rate": step.learning_rate,
                "training/gradient": step.gradient,
                "speed/clips_per_second": step.clips / step.seconds,
                "speed/waiting_share": step.waiting / step.seconds,
            }
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step.step)

    def _draw(self) -> None:
        draw_curves(self._history, self.out / "loss_history.png")
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._board.close()
        with disk_errors(self.out, again=GO_ON):
            self._draw()


def refuse_files_of_others(out: Path) -> None:
    """Refuse a folder in which a run that begins would replace files that no run has written.

    Raises:
        UserError: there is one, and no history of a run.
    """
    history = out / "history.csv"
    with disk_errors(out, again=GO_ON):
        if history.is_file():
            with history.open("rb") as file:
                if file.read(len(_HEAD)) == _HEAD:
                    return
        names = ("config.yaml", "history.csv", "loss_history.png", "best.pt", "final.pt")
        for path in (out / name for name in (*names, "validation", "tensorboard")):
            if os.path.lexists(path):
                raise UserError(f"{path} is not of a run of s2svos train", "choose another --out")


def _rows(path: Path) -> list[list[str]]:
    """Return the whole rows of an earlier attempt; a kill may have cut the last."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0].isdigit()]


def draw_curves(history: Path, out: Path) -> None:
    """Draw loss and J over the steps of ``history.csv`` into a PNG, if there is a step.

    Args:
        history: the file; J and F of the validation are drawn where it holds them.
        out: the PNG; replaced once the new one is whole.
    """
    # It would warn of a home folder that cannot be written, and does without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    steps = np.array([int(row["step"]) for row in rows])
    scored = [row for row in rows if row.get("validation_j")]
    window = max(1, min(SMOOTHING, len(rows) // 4))  # of a short run a curve is seen as well
    kernel = np.ones(window) / window
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for axis, key, title in zip(axes, ("loss", "jaccard"), ("Loss", "J"), strict=True):
        values = np.array([float(row[key]) for row in rows])
        axis.plot(steps, values, color="0.85", linewidth=0.5)
        smooth = np.convolve(values, kernel, "valid")
        axis.plot(steps[window - 1 :], smooth, color="C0", label=f"{title} on training clips")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    for key, colour in (("validation_j", "C1"), ("validation_f", "C2")) if scored else ():
        at = [int(row["step"]) for row in scored]
        label = f"validation {key[-1].upper()}"
        axes[1].plot(at, [float(row[key]) for row in scored], ".-", color=colour, label=label)
    axes[1].legend()
    with written_beside(out) as part:
        figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)
