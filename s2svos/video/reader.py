"""Videos, from a file or a folder of pictures, read one frame at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from s2svos.video.decoder import VideoFile
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
# What Pillow raises for broken files, and for those that state a size that no memory holds.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


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
            raise UserError(f"No frames lie from {start} to {end}", "choose 0 <= start < end")
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
            f"{self.path} has {has}, so none at index {self.start}", "choose a smaller start"
        )


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts frame2 before frame10."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(digits), "") if digits else (-1, text.lower()) for digits, text in parts]


class PictureFolder:
    """A folder of pictures in natural order; other files are ignored.

    Pictures are read as they are stored: an EXIF orientation is not applied.

    Attributes:
        width, height: in pixels.
        rate: frames a second; 24, as a folder states none.
        count: how many pictures there are.
        names: their stems.

    Raises:
        UserError: no pictures, two of one stem, mixed sizes, or one cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = sorted(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            ),
            key=lambda file: (natural_key(file.stem), file.name),
        )
        if not self._files:
            raise UserError(
                f"{path} holds no pictures ({' '.join(sorted(SUFFIXES))})",
                "name a folder of frames",
            )
        self.names = [file.stem for file in self._files]
        for file, following in zip(self._files, self._files[1:], strict=False):
            if file.stem == following.stem:
                raise UserError(
                    f"{path} holds both {file.name} and {following.name}", "leave one a frame"
                )
        self.rate = Fraction(24)
        self.count: int = len(self._files)
        self.width, self.height = _size(self._files[0])
        for file in self._files[1:]:
            self._check_size(file, _size(file))

    def frames(self, start: int = 0) -> Iterator[tuple[str, Frame]]:
        """Yield names and pictures from frame ``start`` on.

        Yields:
            name, uint8 [H, W, 3] RGB, C-contiguous.

        Raises:
            UserError: a picture cannot be read.
        """
        for name, file in zip(self.names[start:], self._files[start:], strict=True):
            try:
                with Image.open(file) as image:
                    picture = np.array(image.convert("RGB"), dtype=np.uint8)
            except _BROKEN as error:
                raise _unreadable(file) from error
            self._check_size(file, (picture.shape[1], picture.shape[0]))
            yield name, picture

    def _check_size(self, file: Path, size: tuple[int, int]) -> None:
        if size != (self.width, self.height):
            raise UserError(
                (
                    f"{file} is {size[0]}x{size[1]}, but {self._files[0].name} is "
                    f"{self.width}x{self.height}"
                ),
                "bring all frames to one size",
            )


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except _BROKEN as error:
        raise _unreadable(file) from error


def _unreadable(file: Path) -> UserError:
    return UserError(f"{file} cannot be read as a picture", "restore it or take it away")
