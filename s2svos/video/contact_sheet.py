"""A page of frames with their masks, to see a whole video at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

_CELL_WIDTH, _GAP = 400, 6  # pixels


def contact_sheet(
    frames_with_labels: Sequence[tuple[Frame, Labels]],
    path: Path,
    *,
    palette: bytes,
    columns: int = 4,
    rows: int = 3,
) -> None:
    """Write the page of :func:`draw_sheet` as a PNG.

    Raises:
        UserError: there are no frames, or the file cannot be written.
    """
    page = draw_sheet(frames_with_labels, palette=palette, columns=columns, rows=rows)
    try:
        write_atomically(path, cv2.imencode(".png", page[..., ::-1])[1].tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})", "choose another") from error


def draw_sheet(
    frames_with_labels: Sequence[tuple[Frame, Labels]], *, palette: bytes, columns: int, rows: int
) -> Frame:
    """Draw frames spread evenly over a video on a page, masks painted on, each with its number.

    Args:
        frames_with_labels: of the whole video.
        palette: 768 bytes, colours of the ids.
        columns: frames side by side.
        rows: frames one below the other.

    Raises:
        UserError: there are no frames.
    """
    if not frames_with_labels:
        raise UserError("A contact sheet needs at least one frame", "give it the frames of a video")
    from s2svos.video.overlay import paint

    height, width = frames_with_labels[0][0].shape[:2]
    cell = (_CELL_WIDTH, round(_CELL_WIDTH * height / width))
    steps = (cell[0] + _GAP, cell[1] + _GAP)
    page = np.full((rows * steps[1] + _GAP, columns * steps[0] + _GAP, 3), 255, np.uint8)
    chosen = np.linspace(0, len(frames_with_labels) - 1, columns * rows).round().astype(int)
    for place, number in enumerate(chosen):
        frame, ids = frames_with_labels[int(number)]
        small = cv2.resize(paint(frame, ids, palette), cell, interpolation=cv2.INTER_AREA)
        for colour, thickness in [((0, 0, 0), 4), ((255, 255, 255), 1)]:
            cv2.putText(
                small, str(number), (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness,
                cv2.LINE_AA,
            )  # fmt: skip
        x, y = _GAP + place % columns * steps[0], _GAP + place // columns * steps[1]
        page[y : y + cell[1], x : x + cell[0]] = small
    return page
