"""A training's figures and pictures for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from s2svos.training.history import Step

EVERY = 10  # steps
FLUSH = 20  # seconds


class Board:
    """Writes events into a folder.

    Args:
        folder: ``tensorboard --logdir`` shows it.
        step: after which the run goes on; later events belong to a lost attempt and are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=FLUSH)

    def write(self, step: Step) -> None:
        """Adds a step's figures, now and then."""
        if step.validation:
            for name, value in zip(("J", "F"), step.validation, strict=True):
                self._writer.add_scalar(f"validation/{name}", value, step.step)
        if step.step % EVERY and step.step != step.steps:
            return
        figures = {
            "training/loss": step.loss,
            "training/J": step.jaccard,
            "training/learning_rate": step.learning_rate,
            "training/gradient": step.gradient,
            "speed/clips_per_second": step.clips / step.seconds,
            "speed/waiting_share": step.waiting / step.seconds,
        }
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step.step)

    def picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Adds a picture, uint8 [H, W, 3]."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is left."""
        self._writer.close()
