"""Videos, from a file or a folder of pictures, read one frame at a time."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from s2svos.video.decoder import Losses, VideoFile, frame_name
from s2svos.video.pictures import (
    BROKEN,
    SUFFIXES,
    brightest_of_16_bits,
    picture_size,
    read_rgb,
)
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

_PIECE = 1 << 28  # bytes of frames that are decoded at once to be shown backwards
_DARK = 1 << 13  # of 65535: an eighth


class Video:
    """The frames of a video, decoded as they are asked for; may be iterated again.

    Iterating yields (name, uint8 [H, W, 3] RGB, C-contiguous). A frame keeps the name that it has
    in the whole video: its file's stem, or its index in five digits.

    Args:
        path: a video file, or a folder of pictures.
        start: index of the first frame.
        end: index after the last one; None for all.
        beside: pictures that may lie in the folder and are no frames, as the first mask.

    Attributes:
        live: False: frames wait until they are asked for, so none is ever dropped.
        timeout: None: a file that is slow to read is waited for.
        width, height: in pixels.
        rate: frames a second, a Fraction.
        time_base: seconds, a Fraction, of which times are multiples.
        pixel_aspect: width of a pixel in its heights, a Fraction.
        losses: packets that could not be decoded, so far.
        doubts: sentences on what may be meant otherwise.
        count: frames to expect from ``start`` to ``end``, or None; a file may hold others.

    Raises:
        UserError: there is no video, or it ends before ``start``; while iterating, a broken
            picture, or TruncatedVideo after the last whole frame of a file that was cut off.
    """

    live = False
    timeout = None

    def __init__(
        self,
        path: str | Path,
        *,
        start: int = 0,
        end: int | None = None,
        beside: Collection[Path] = (),
    ) -> None:
        self.path = Path(path)
        self._source = _open(self.path, beside)
        self.width, self.height = self._source.width, self._source.height
        self.rate, self.time_base = self._source.rate, self._source.time_base
        self.pixel_aspect, self.losses = self._source.pixel_aspect, self._source.losses
        self.doubts = self._source.doubts
        self._choose(start, end)

    def _choose(self, start: int, end: int | None) -> None:
        if start < 0 or (end is not None and end <= start):
            raise UserError(f"No frames lie from {start} to {end}", "choose 0 <= start < end")
        self.start, self.end, self.count = start, end, self._source.count
        if isinstance(self._source, Pictures) and start >= self._source.count:
            raise self._ends_before_start(self._source.count)
        if self.count is not None:
            last = self.count if end is None else min(end, self.count)
            self.count = max(0, last - start)

    def __iter__(self) -> Iterator[tuple[str, Frame]]:
        return ((name, frame) for name, frame, _ in self.timed())

    def part(self, start: int, end: int | None) -> Video:
        """Return the same video from another frame to another."""
        part = copy.copy(self)
        part._choose(start, end)
        return part

    def index_at(self, time: Fraction) -> int:
        """Return the index of the first frame that is shown at a time or later.

        Args:
            time: seconds from the beginning of the whole video.

        Raises:
            UserError: the video ends before that.
        """
        if isinstance(self._source, Pictures):
            found = math.ceil(time * self.rate)
            index = found if found < self._source.count else None
        else:
            index = self._source.index_at(time)
        if index is None:
            raise UserError(f"{self.path} ends before {float(time):g} s", "choose an earlier time")
        return index

    def name(self, index: int) -> str:
        """Return what the frame of an index is called."""
        if isinstance(self._source, Pictures):
            return self._source.names[index]
        return frame_name(index)

    def timed(self) -> Iterator[tuple[str, Frame, Fraction]]:
        """Yield names and frames as iterating does, and when each is shown, in rising seconds."""
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


def _open(path: Path, beside: Collection[Path]) -> Pictures | VideoFile:
    try:
        if path.is_dir():
            return Pictures(path, _picture_files(path, beside))
        if path.suffix.lower() in SUFFIXES and path.is_file():
            return Pictures(path, [path])
        return VideoFile(path)
    except PermissionError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})", "change its permissions"
        ) from error


def backwards(video: Video) -> Iterator[Frame]:
    """Yield the frames of a video from its ``end``, which it has to have, to its ``start``.

    A video file is decoded in pieces, so that memory is bounded.

    Yields:
        uint8 [H, W, 3] RGB.
    """
    assert video.end is not None
    length = max(1, _PIECE // (3 * video.width * video.height))
    for end in range(video.end, video.start, -length):
        piece = video.part(max(video.start, end - length), end)
        yield from reversed([frame for _, frame in piece])


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts frame2 before frame10, and numbers before words."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(0, int(digits), "") if digits else (1, 0, text.lower()) for digits, text in parts]


def _picture_files(path: Path, beside: Collection[Path]) -> list[Path]:
    """Return the pictures of a folder in natural order, but those that are no frames.

    Raises:
        UserError: there is none, or there are two of one stem.
    """
    others = {one.resolve() for one in beside}
    files = sorted(
        (
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES
            and not file.name.startswith(".")
            and file.resolve() not in others
        ),
        key=lambda file: (natural_key(file.stem), file.name),
    )
    if not files:
        raise UserError(
            f"{path} holds no pictures ({' '.join(sorted(SUFFIXES))})", "name a folder of frames"
        )
    for file, following in pairwise(files):
        if file.stem == following.stem:
            raise UserError(
                f"{path} holds both {file.name} and {following.name}", "leave one a frame"
            )
    return files


class Pictures:
    """The pictures of a folder, or a single one; a folder's other files are ignored.

    Args:
        path: of the folder or picture.
        files: the pictures, in order.

    Attributes:
        width, height: in pixels, upright.
        rate: frames a second; 24, as pictures state none.
        time_base: of a frame, in seconds.
        pixel_aspect: 1, as pictures state none.
        count: how many pictures there are.
        names: their stems.
        losses: none: a broken picture ends the video.
        doubts: sentences on what may be meant otherwise.

    Raises:
        UserError: mixed sizes, one whose name is not like the others', or one cannot be read.
    """

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path, self._files = path, files
        self.names = [file.stem for file in files]
        if odd := unlike_name(self.names):
            raise UserError(
                f"{path} holds a picture {odd}, whose name is not like those of the other frames",
                "take it out of the folder, or give it a number as they have",
            )
        self.rate, self.time_base, self.pixel_aspect = Fraction(24), Fraction(1, 24), Fraction(1)
        self.losses = Losses()
        self.count: int = len(self._files)
        self.width, self.height = _size(self._files[0])
        for file in self._files[1:]:
            self._check_size(file, _size(file))
        self.doubts = _dark(self._files[0])

    def frames(self, start: int = 0) -> Iterator[tuple[str, Frame, Fraction]]:
        """Yield names, pictures and times from frame ``start`` on.

        Yields:
            name, uint8 [H, W, 3] RGB, C-contiguous, and seconds.

        Raises:
            UserError: a picture cannot be read.
        """
        for index in range(start, self.count):
            file = self._files[index]
            try:
                picture = read_rgb(file)
            except BROKEN as error:
                raise _unreadable(file) from error
            self._check_size(file, (picture.shape[1], picture.shape[0]))
            yield self.names[index], picture, index / self.rate

    def _check_size(self, file: Path, size: tuple[int, int]) -> None:
        if size != (self.width, self.height):
            raise UserError(
                (
                    f"{file} is {size[0]}x{size[1]}, but {self._files[0].name} is "
                    f"{self.width}x{self.height}"
                ),
                "bring all frames to one size",
            )


def unlike_name(names: Sequence[str]) -> str | None:
    """Return a name that is not numbered as most of the others are, which may be no frame's."""
    patterns = [re.sub("[0-9]+", "#", name) for name in names]
    usual, count = Counter(patterns).most_common(1)[0]
    if "#" not in usual or 2 * count <= len(names):
        return None
    return next((name for name, own in zip(names, patterns, strict=True) if own != usual), None)


def _dark(file: Path) -> list[str]:
    """Say so where pictures of 16 bits use few of them: 12 bits in 16 are nearly black."""
    try:
        brightest = brightest_of_16_bits(file)
    except BROKEN as error:
        raise _unreadable(file) from error
    if brightest is None or brightest >= _DARK:
        return []
    return [
        f"{file} has 16 bits a pixel, of which the brightest is {brightest} of 65535, nearly "
        "black; if its camera gives fewer bits, scale its pictures to all 16."
    ]


def _size(file: Path) -> tuple[int, int]:
    try:
        return picture_size(file)
    except BROKEN as error:
        raise _unreadable(file) from error


def _unreadable(file: Path) -> UserError:
    return UserError(f"{file} cannot be read as a picture", "restore it or take it away")
