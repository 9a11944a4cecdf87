"""What a program does in a line: ``s2svos.read``, ``infer`` and ``to_supervision``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2svos import load
from s2svos.extras import needs
from s2svos.inference.progress import shown_progress
from s2svos.inference.run import default_out
from s2svos.inference.run import infer as run
from s2svos.inference.summary import RunSummary
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video
from s2svos_engines.arrays import Frame, Labels, object_ids
from s2svos_engines.confidence import Confidence

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
    save: Sequence[str] = (),
    names: Mapping[int, str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> RunSummary:
    """Follow the objects of a video's first frame, as ``s2svos infer`` does.

    Args:
        video: a file or a folder of pictures.
        mask: with the objects on its first frame, as for ``--mask``.
        out: folder for the results; None for one named after the video, in the working folder.
        later: masks of later frames by their index: corrections, and objects that enter.
        tracker: that follows; None for ``lite``, with a window that follows the
            objects.
        overlay: also make ``overlay.mp4``.
        save: other formats to make, as for ``--save``: ``alpha.mov``, ``tracks.csv`` ...
        names: what objects are called, by id.
        overwrite: replace an earlier run's results.
        resume: go on with an earlier run that ended early.
        progress: show a bar on a terminal or in a notebook, and a line now and then elsewhere.

    Returns:
        What was done, as ``run.json`` has it; a notebook shows frames of the overlay.

    Raises:
        UserError: a file cannot be read or written, or a mask does not fit.
    """
    masks = {index: Path(path) for index, path in (later or {}).items()}
    opened = Video(video, beside=[Path(mask), *masks.values()])
    size = opened.height, opened.width
    first = read_first_mask(mask, size=size)
    with shown_progress(opened.count) if progress else nullcontext() as report:
        return run(
            opened,
            first,
            lambda: tracker or load(window="auto"),
            out=Path(out) if out else default_out(video),
            later={index: read_first_mask(path, size=size) for index, path in masks.items()},
            overlay=overlay,
            save=save,
            names=names or {},
            overwrite=overwrite,
            resume=resume,
            report=report,
        )


def to_supervision(labels: Labels, confidence: Mapping[int, Confidence] | None = None) -> Any:
    """Return the objects of a frame as ``supervision.Detections``.

    Args:
        labels: uint8 [H, W], as :meth:`~s2svos_engines.tracker.Stream.step` returns them.
        confidence: of the stream, by id.

    Returns:
        boxes, masks, confidence, and the ids as ``tracker_id`` and ``class_id``.

    Raises:
        UserError: supervision is not installed.
    """
    with needs("supervision"):
        import supervision
    ids = object_ids(labels)
    masks = labels == ids[:, None, None]
    sure = [confidence[int(one)].certainty if confidence else 1.0 for one in ids]
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks) if len(ids) else np.zeros((0, 4)),
        mask=masks,
        confidence=np.array(sure, np.float64),
        class_id=ids.astype(np.int64),
        tracker_id=ids.astype(np.int64),
    )
