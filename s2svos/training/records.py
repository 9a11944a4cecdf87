"""What a running training leaves for people: history, curves, TensorBoard, strips of masks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from s2svos.training.config import TrainConfig
from s2svos.training.curves import draw_curves
from s2svos.training.history import History, Step
from s2svos.training.settings import write_config
from s2svos.training.tensorboard import Board
from s2svos.training.validation import Score, page_of, write_page
from s2svos_engines.errors import UserError

REDRAW = 30  # seconds between two pictures of the curves, which take about half of one


class Records:
    """Writes ``config.yaml``, ``history.csv``, ``loss_history.png``, ``validation/`` and
    ``tensorboard/`` into the folder of a run.

    Args:
        config: of the training.
        out: the folder.
        step: after which the run goes on; what is recorded of later ones belongs to a lost attempt.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, config: TrainConfig, out: Path, step: int) -> None:
        self.out = out
        with _writing(out):
            out.mkdir(parents=True, exist_ok=True)
            write_config(config, out / "config.yaml")
            self._history = History(out / "history.csv", step)
            self._board = Board(out / "tensorboard", step)
        self._drawn = time.monotonic()

    def write(self, step: Step) -> None:
        """Records a step."""
        with _writing(self.out):
            self._history.write(step)
            self._board.write(step)
            if time.monotonic() - self._drawn > REDRAW:
                self._draw()

    def show(self, scores: Sequence[Score], step: int) -> None:
        """Records how the videos of a validation look."""
        page = page_of(scores)
        with _writing(self.out):
            write_page(page, self.out / "validation" / f"{step:06d}.png")
            self._board.picture("validation", page, step)

    def _draw(self) -> None:
        draw_curves(self.out / "history.csv", self.out / "loss_history.png")
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._history.close()
        self._board.close()
        with _writing(self.out):
            self._draw()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); make room there, or choose "
            "another --out."
        ) from error
