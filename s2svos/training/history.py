"""``history.csv``: one row for each step."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from s2svos.files import written_beside

COLUMNS = (
    *("step", "loss", "jaccard", "learning_rate", "gradient", "seconds", "waiting", "clips"),
    *("validation_j", "validation_f"),
)


@dataclass(frozen=True)
class Step:
    """What happened in one optimiser step, over all devices.

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
        validation: J and F of the averaged weights, where they were judged after this step.
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


class History:
    """Appends a row a step, each written out at once.

    Args:
        path: of the file.
        step: after which the run goes on; rows after it belong to a lost attempt and go.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [row for row in _rows(path) if int(row[0]) <= step] if step else []
        with written_beside(path) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])
        self._file = path.open("a", newline="", buffering=1)
        self._writer = csv.writer(self._file)

    def write(self, step: Step) -> None:
        """Appends a step."""
        values = (
            *(step.loss, step.jaccard, step.learning_rate, step.gradient),
            *(step.seconds, step.waiting),
        )
        scores = [f"{score:.6g}" for score in step.validation or ()] or ["", ""]
        row = [step.step, *(f"{value:.6g}" for value in values), step.clips, *scores]
        self._writer.writerow(row)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _rows(path: Path) -> list[list[str]]:
    """Whole rows of an earlier attempt; a kill may have cut the last."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0].isdigit()]
