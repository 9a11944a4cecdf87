"""What a program does in a line: ``s2svos.read`` and ``s2svos.infer``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s2svos import load
from s2svos.inference.run import default_out
from s2svos.inference.run import infer as run
from s2svos.inference.summary import RunSummary
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video
from s2svos_engines.arrays import Frame

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker


def read(video: str | Path, *, start: int = 0, end: int | None = None) -> Iterator[Frame]:
    """Yield the frames of a video file or a folder of pictures, uint8 [H, W, 3] RGB, one by one.

    Args:
        video: its path.
        start: index of the first frame.
        end: index after the last one; None for all.

    Raises:
        UserError: it cannot be read.
    """
    return (frame for _, frame in Video(video, start=start, end=end))


def infer(
    video: str | Path,
    mask: str | Path,
    out: str | Path | None = None,
    *,
    later: Mapping[int, str | Path] | None = None,
    tracker: Tracker | None = None,
    overlay: bool = True,
    overwrite: bool = False,
) -> RunSummary:
    """Follow the objects of a video's first frame, as ``s2svos infer`` does.

    Args:
        video: a file or a folder of pictures.
        mask: PNG with the objects on its first frame.
        out: folder for the results; None for one named after the video, in the working folder.
        later: masks of later frames by their index: corrections, and objects that enter.
        tracker: that follows; None for the bundle that ships, with a window that follows the
            objects.
        overlay: also make ``overlay.mp4``.
        overwrite: replace an earlier run's results.

    Returns:
        What was done, as ``run.json`` has it.

    Raises:
        UserError: a file cannot be read or written, or a mask does not fit.
    """
    masks = {index: Path(path) for index, path in (later or {}).items()}
    opened = Video(video, beside=[Path(mask), *masks.values()])
    size = opened.height, opened.width
    return run(
        opened,
        read_first_mask(mask, size=size),
        lambda: tracker or load(window="auto"),
        out=Path(out) if out else default_out(video),
        later={index: read_first_mask(path, size=size) for index, path in masks.items()},
        overlay=overlay,
        overwrite=overwrite,
    )
