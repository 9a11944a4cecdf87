"""Frames that lie as pictures in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises for broken files


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts frame2 before frame10."""
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
                f"{path} holds no pictures ({' '.join(sorted(SUFFIXES))}); name a folder of frames."
            )
        self.names = [file.stem for file in self._files]
        for file, following in zip(self._files, self._files[1:], strict=False):
            if file.stem == following.stem:
                raise UserError(
                    f"{path} holds both {file.name} and {following.name}; leave one a frame."
                )
        self.rate = Fraction(24)
        self.count: int = len(self._files)
        self.width, self.height = _size(self._files[0])
        for file in self._files[1:]:
            self._check_size(file, _size(file))

    def frames(self, start: int = 0) -> Iterator[tuple[str, Frame]]:
        """Names and pictures from frame ``start`` on.

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
                f"{file} is {size[0]}x{size[1]}, but {self._files[0].name} is "
                f"{self.width}x{self.height}; bring all frames to one size."
            )


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except _BROKEN as error:
        raise _unreadable(file) from error


def _unreadable(file: Path) -> UserError:
    return UserError(f"{file} cannot be read as a picture; restore it or take it away.")
