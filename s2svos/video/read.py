"""Videos, from a file or a folder of pictures, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos.video.decode import TruncatedVideo, VideoFile
from s2svos.video.folder import PictureFolder
from s2svos_engines.errors import UserError

__all__ = ["Frame", "TruncatedVideo", "Video"]

Frame = NDArray[np.uint8]  # [H, W, 3] RGB


class Video:
    """The frames of a video, decoded as they are asked for; may be iterated again.

    Iterating yields (name, uint8 [H, W, 3] RGB, C-contiguous). A frame keeps the name that it has
    in the whole video: its file's stem, or its index in five digits.

    Args:
        path: a video file, or a folder of pictures.
        start: index of the first frame.
        end: index after the last one; None for all.

    Attributes:
        live: False: frames wait until they are asked for, so none is ever dropped.
        timeout: None: a file that is slow to read is waited for.
        width, height: in pixels.
        rate: frames a second, a Fraction.
        count: frames to expect from ``start`` to ``end``, or None; a file may hold others.

    Raises:
        UserError: there is no video, or it ends before ``start``; while iterating, a broken
            picture, or TruncatedVideo after the last whole frame of a file that was cut off.
    """

    live = False
    timeout = None

    def __init__(self, path: str | Path, *, start: int = 0, end: int | None = None) -> None:
        if start < 0 or (end is not None and end <= start):
            raise UserError(f"No frames lie from {start} to {end}; choose 0 <= start < end.")
        self.path = Path(path)
        self.start = start
        self.end = end
        self._source = (PictureFolder if self.path.is_dir() else VideoFile)(self.path)
        self.width, self.height = self._source.width, self._source.height
        self.rate = self._source.rate
        self.count = self._source.count
        if isinstance(self._source, PictureFolder) and start >= self._source.count:
            raise self._ends_before_start(self._source.count)
        if self.count is not None:
            last = self.count if end is None else min(end, self.count)
            self.count = max(0, last - start)

    def __iter__(self) -> Iterator[tuple[str, Frame]]:
        index = self.start
        frames = self._source.frames(self.start)
        for index, item in enumerate(frames, self.start + 1):
            yield item
            if index == self.end:
                return
        if index == self.start:
            raise self._ends_before_start(None)

    def _ends_before_start(self, count: int | None) -> UserError:
        has = "fewer frames" if count is None else f"{count} frames"
        return UserError(
            f"{self.path} has {has}, so none at index {self.start}; choose a smaller start."
        )
