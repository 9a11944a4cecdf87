"""Videos to evaluate: their frames and true masks, one at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data import layouts
from s2svos.data.files import read_frame, read_mask
from s2svos.data.layouts import VideoFiles
from s2svos.video.reader import Video, natural_key
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

Size = tuple[int, int]
"""Height and width."""

VOID = 255
"""DAVIS's id of pixels that are not scored, unless it is a mask's only value."""
_ROUNDING = 2  # pixels: YouTube-VOS and its kin have masks that are 853 wide for frames of 854


@dataclass(frozen=True)
class ClipFile(VideoFiles):
    """A video whose frames lie in one file; a frame's stem is its index in five digits.

    Args:
        file: the video; ``frames`` is empty, and so is ``required``, which means all.
        count: frames according to the file, for progress; may be wrong.
    """

    file: Path = Path()
    count: int = 0


@dataclass(frozen=True)
class VideoSet:
    """Videos to evaluate.

    Args:
        name: of the data set, for tables.
        files: the videos.
        late: unlisted objects may enter after the first mask.
        submission: the masks are also packed for YouTube-VOS's server.
    """

    name: str
    files: list[VideoFiles] = field(default_factory=list)
    late: bool = False
    submission: bool = False


def open_videos(kind: str, root: Path, *, year: int = 2016, split: str | None = None) -> VideoSet:
    """Find the videos of a data set.

    Args:
        kind: ``davis``, ``youtube-vos``, ``folder`` (frames and masks) or ``clips`` (videos and
            masks).
        root: its folder.
        year: of DAVIS.
        split: of DAVIS, None for ``val``, or of YouTube-VOS, None for ``valid``.

    Raises:
        UserError: the folder has another layout, or no video.
    """
    if kind == "davis":
        split = split or "val"
        return VideoSet(f"DAVIS {year} {split}", layouts.davis(root, year, split))
    if kind == "youtube-vos":
        split = split or "valid"
        files = layouts.youtube_vos(root, split)
        return VideoSet(f"YouTube-VOS {split}", files, submission=True)
    files = layouts.folder(root) if kind == "folder" else clips(root)
    return VideoSet(f"{kind} {root.resolve().name}", files, late=True)


def clips(root: Path) -> list[VideoFiles]:
    """Return every ``NAME.mp4`` with true masks ``NAME/00000.png`` and so on beside it.

    Raises:
        UserError: there is none, or one is no video.
    """
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
    """Return the number of a video's frames, for one in a file according to the file."""
    return video.count if isinstance(video, ClipFile) else len(video.frames)


def frames(video: VideoFiles) -> Iterator[tuple[str, Frame]]:
    """Yield stems and frames of a video, in order.

    Raises:
        UserError: a frame cannot be read.
    """
    if isinstance(video, ClipFile):
        yield from Video(video.file)
    else:
        for path in video.frames:
            yield path.stem, read_frame(path)


def frame_at(video: VideoFiles, stem: str) -> Frame:
    """Read one frame of a video.

    Raises:
        UserError: the frame cannot be read.
    """
    if isinstance(video, ClipFile):
        return next(frame for _, frame in Video(video.file, start=int(stem)))
    return read_frame(next(path for path in video.frames if path.stem == stem))


def truth_at(video: VideoFiles, stem: str, shape: Size, *, resized: bool) -> Labels | None:
    """Read the true ids of a frame, None if it is not annotated.

    Args:
        video: that the frame belongs to; ``merge`` makes all ids 1.
        stem: of the frame.
        shape: height and width of the frame as it is followed.
        resized: the frame was brought to that size; if not, its mask has to have it.

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
    """Resize a frame [H, W, 3] or mask [H, W] by one of OpenCV's methods."""
    resized = cv2.resize(picture, (size[1], size[0]), interpolation=method)
    return resized.astype(np.uint8, copy=False)


def object_ids(labels: Labels) -> set[int]:
    """Return the ids in a mask: 255 is one if it is alone (a black and white mask), else void."""
    found = {int(one) for one in np.unique(labels)} - {0}
    return found if found == {VOID} else found - {VOID}


def fingerprint(video: VideoFiles) -> str:
    """Return a digest of a video's contents: names, sizes and times of its files, its objects."""
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
