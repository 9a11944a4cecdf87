"""The videos that are evaluated: their frames and true masks, one at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.files import read_frame, read_mask
from s2svos.data.layouts import VideoFiles
from s2svos.video.reader import natural_key
from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Ids = NDArray[np.uint8]  # [H, W] object ids, 0 for the background
Size = tuple[int, int]  # height and width

VOID = 255
"""DAVIS's mark of pixels that belong to nothing, unless it is a mask's only value."""
_ROUNDING = 2  # pixels: YouTube-VOS and its kin have masks that are 853 wide for frames of 854


@dataclass(frozen=True)
class ClipFile(VideoFiles):
    """A video whose frames lie in one file; a frame's stem is its index in five digits.

    Args:
        file: the video; ``frames`` is empty, and so is ``required``, which means all.
        count: frames that the file says it holds, for progress; may be off.
    """

    file: Path = Path()
    count: int = 0


def clips(root: Path) -> list[VideoFiles]:
    """Every ``NAME.mp4`` with true masks ``NAME/00000.png`` and so on beside it.

    Raises:
        UserError: there is none, or one is no video.
    """
    from s2svos.video.reader import Video

    found: list[VideoFiles] = []
    for file in sorted(root.glob("*.mp4"), key=lambda path: natural_key(path.name)):
        masks = {path.stem: path for path in sorted(file.with_suffix("").glob("*.png"))}
        if masks:
            found.append(
                ClipFile(
                    file.stem, (), masks, None, (), False, file=file,
                    count=Video(file).count or len(masks),
                )
            )  # fmt: skip
    if not found:
        raise UserError(f"{root} holds no NAME.mp4 with a folder NAME of masks", "name another")
    return found


def frame_count(video: VideoFiles) -> int:
    """Frames of a video; for one in a file, what the file says."""
    return video.count if isinstance(video, ClipFile) else len(video.frames)


def frames(video: VideoFiles) -> Iterator[tuple[str, Frame]]:
    """Stems and frames of a video, in order.

    Raises:
        UserError: a frame cannot be read.
    """
    if isinstance(video, ClipFile):
        from s2svos.video.reader import Video

        yield from Video(video.file)
    else:
        for path in video.frames:
            yield path.stem, read_frame(path)


def frame_at(video: VideoFiles, stem: str) -> Frame:
    """One frame of a video.

    Raises:
        UserError: the frame cannot be read.
    """
    if isinstance(video, ClipFile):
        from s2svos.video.reader import Video

        return next(frame for _, frame in Video(video.file, start=int(stem)))
    return read_frame(next(path for path in video.frames if path.stem == stem))


def truth_at(video: VideoFiles, stem: str, shape: Size, *, resized: bool) -> Ids | None:
    """The true ids on a frame, None where it is not annotated.

    Args:
        video: that the frame belongs to; ``merge`` makes all ids 1.
        stem: of the frame.
        shape: height and width of the frame as it is followed.
        resized: whether the frame was brought to that size; if not, its mask has to have it.

    Raises:
        UserError: the mask cannot be read, or is of another size than the frame.
    """
    if stem not in video.masks:
        return None
    ids = read_mask(video.masks[stem])
    if video.merge:
        ids = (ids > 0).astype(np.uint8)
    if ids.shape == shape:
        return ids
    off = max(abs(ids.shape[0] - shape[0]), abs(ids.shape[1] - shape[1]))
    if not resized and off > _ROUNDING:
        raise UserError(
            (
                f"{video.masks[stem]} is {ids.shape[1]}x{ids.shape[0]}, but its frame is "
                f"{shape[1]}x{shape[0]}"
            ),
            "give masks of the frames' size, or a --size for both",
        )
    # The exact variant: plain nearest shifts the mask by up to half a pixel.
    return resize(ids, shape, cv2.INTER_NEAREST_EXACT)


def resize(picture: NDArray[np.uint8], size: Size, method: int) -> NDArray[np.uint8]:
    """A frame [H, W, 3] or mask [H, W] at another height and width, by one of OpenCV's methods."""
    resized = cv2.resize(picture, (size[1], size[0]), interpolation=method)
    return resized.astype(np.uint8, copy=False)


def object_ids(mask: Ids) -> set[int]:
    """Ids in a mask: 255 is one if it is alone, as in a black and white mask, and void if not."""
    found = {int(one) for one in np.unique(mask)} - {0}
    return found if found == {VOID} else found - {VOID}


def fingerprint(video: VideoFiles) -> str:
    """Names a video's contents: names, sizes and times of its files, and its objects."""
    files = [*video.frames, *video.masks.values()]
    if isinstance(video, ClipFile):
        files.append(video.file)
    facts = [
        video.name,
        [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in files],
        sorted((video.objects or {}).items()),
        video.required,
        video.merge,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
