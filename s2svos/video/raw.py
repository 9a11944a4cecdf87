"""Bare frames and masks through pipes, as ``ffmpeg -f rawvideo`` writes and reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from s2svos.video.decode import FALLBACK_RATE
from s2svos.video.errors import EndedEarly
from s2svos.video.incoming import Feed
from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
STANDARD_INPUT = "standard input"


def open_raw(file: FileIO, *, size: tuple[int, int], rate: Fraction | None = None) -> Feed:
    """Reads frames of three bytes a pixel: red, green, blue; rows from top to bottom, no header.

    Args:
        file: unbuffered; a pipe, or any other file.
        size: width and height of a frame.
        rate: frames a second; None for 24, as the bytes do not tell.

    Raises:
        UserError: there is not one frame.
        EndedEarly: it ends within the first frame.
    """
    frames = _frames(file, size)
    first = next(frames, None)
    if first is None:
        raise UserError(
            "Standard input ended before the first frame; pipe rgb24 frames into it, as ffmpeg "
            "-i VIDEO -f rawvideo -pix_fmt rgb24 - does."
        )
    return Feed(first, frames, rate or FALLBACK_RATE, live=False)


def _frames(file: FileIO, size: tuple[int, int]) -> Iterator[Frame]:
    width, height = size
    for index in range(sys.maxsize):
        frame = np.empty((height, width, 3), np.uint8)
        rest = frame.data.cast("B")
        while rest and (got := file.readinto(rest)):
            rest = rest[got:]
        if len(rest) == frame.nbytes:
            return
        if rest:
            raise EndedEarly(
                f"Standard input ended within frame {index}, after {frame.nbytes - len(rest)} of "
                f"{frame.nbytes} bytes; check that it is rgb24 of {width}x{height}, width first."
            )
        yield frame


@contextmanager
def masks_only() -> Iterator[FileIO]:
    """Standard output for masks alone: whatever else is printed goes to standard error.

    Yields:
        unbuffered.

    Raises:
        UserError: standard output is a terminal.
    """
    if sys.stdout.isatty():
        raise UserError(
            "Masks are bytes that a terminal cannot show; pipe them to a program or a file, or "
            "name a folder with -o."
        )
    sys.stdout.flush()
    output, error = sys.stdout.fileno(), sys.stderr.fileno()
    with FileIO(os.dup(output), "w") as file:
        os.dup2(error, output)
        try:
            yield file
        finally:
            sys.stdout.flush()
            os.dup2(file.fileno(), output)
