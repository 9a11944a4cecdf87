"""Cameras of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.video.decode import FALLBACK_RATE
from s2svos.video.errors import EndedEarly
from s2svos.video.incoming import Feed
from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
_WARM_UP = 10  # frames in which a camera finds its exposure


def camera_name(index: int) -> str:
    """What messages call a camera."""
    return f"camera {index}"


def open_camera(
    index: int, *, size: tuple[int, int] | None = None, rate: Fraction | None = None
) -> Feed:
    """Opens a camera and takes its first frame, once the exposure has settled.

    Args:
        index: which one, as the system counts them.
        size: width and height to ask it for; it may give others. None for its own.
        rate: frames a second to ask it for; None for its own.

    Raises:
        UserError: it cannot be opened.
        EndedEarly: it gives no frames.
    """
    # OpenCV rather than FFmpeg's devices: PyAV's wheels have none on some systems.
    with _silent():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise UserError(
            f"{camera_name(index).capitalize()} cannot be opened; check that it is connected, that "
            "no other program uses it, and its number (--camera 0 is the first)."
        )
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if rate:
        capture.set(cv2.CAP_PROP_FPS, float(rate))
    stated = Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    frames = _frames(capture, camera_name(index))
    for _ in range(_WARM_UP):
        next(frames)
    return Feed(next(frames), frames, rate or stated or FALLBACK_RATE, live=True)


def _frames(capture: cv2.VideoCapture, name: str) -> Iterator[Frame]:
    while True:
        taken, picture = capture.read()
        if not taken:
            raise EndedEarly(f"The {name} gives no more frames; check that it is still connected.")
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps OpenCV's own lines about a missing camera away: one sentence is enough."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
