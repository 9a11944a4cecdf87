"""Videos for editors: objects with soft edges, their matte, or on green."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.saving.frame import SavedFrame, SavedVideo
from s2svos.saving.source import SourceTracks
from s2svos.video.writer import H264, PRORES_4444, VP9_ALPHA, Encoding, VideoWriter
from s2svos_engines.arrays import Frame

GREEN = np.array([0, 177, 64], np.float32)  # of most cloths, which keyers look for
_EVEN = 1e-4  # variance of a picture of 0 to 1 below which the guided filter takes it for even
_REACH = 1 / 60  # of the picture's height

Alpha = NDArray[np.uint8]
Picture = Callable[[Frame, Alpha], NDArray[np.uint8]]


class Movie:
    """A video made of the frames and the alpha of an object, or of all.

    Args:
        path: of the file.
        video: that the masks are of.
        picture: makes a picture to be encoded, of a frame and an alpha, uint8 [H, W].
        encoding: of the pictures.
        one: id of the object; None for all.
        refine: have edges follow those of the picture.
    """

    def __init__(
        self,
        path: Path,
        video: SavedVideo,
        picture: Picture,
        encoding: Encoding,
        *,
        one: int | None = None,
        refine: bool = False,
    ) -> None:
        self._picture, self._one, self._refine = picture, one, refine
        self._writer = VideoWriter.like(
            video,
            path,
            encoding=encoding,
            crf=16 if encoding is H264 else None,
            tracks=SourceTracks(video.path),
        )

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        alpha = shown.alpha(self._one)
        if self._refine:
            alpha = refined(alpha, shown.frame)
        self._writer.write(self._picture(shown.frame, alpha), at=Fraction(shown.time))

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        self._writer.close(keep=keep)


def alpha_movie(path: Path, video: SavedVideo, refine: bool, *, one: int | None = None) -> Movie:
    """Return a video with an alpha channel, not premultiplied: ProRes 4444, or VP9 in WebM."""
    encoding = VP9_ALPHA if path.suffix == ".webm" else PRORES_4444
    return Movie(path, video, _with_alpha, encoding, one=one, refine=refine)


def layer_movie(path: Path, video: SavedVideo, refine: bool) -> Movie:
    """Return an :func:`alpha_movie` of one object, whose id the name ends in: ``layers-ID.mov``."""
    return alpha_movie(path, video, refine, one=int(path.stem.rpartition("-")[2]))


def matte_movie(path: Path, video: SavedVideo, refine: bool) -> Movie:
    """Return a video of the alpha alone, white where objects are."""
    return Movie(path, video, lambda frame, alpha: _grey(alpha), H264, refine=refine)


def green_movie(path: Path, video: SavedVideo, refine: bool) -> Movie:
    """Return a video of the objects on green."""
    return Movie(path, video, on_green, H264, refine=refine)


def _with_alpha(frame: Frame, alpha: Alpha) -> NDArray[np.uint8]:
    return np.dstack([frame, alpha])


def _grey(alpha: Alpha) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), np.uint8)


def on_green(frame: Frame, alpha: Alpha) -> NDArray[np.uint8]:
    """Return a frame, uint8 [H, W, 3], with green where the alpha, uint8 [H, W], is 0."""
    share = alpha[:, :, None].astype(np.float32) / 255
    return np.asarray(frame * share + GREEN * (1 - share) + 0.5, np.uint8)


def refined(alpha: Alpha, frame: Frame) -> Alpha:
    """Return an alpha whose edges follow those of the picture.

    The guided filter (He, Sun, Tang 2013, equations 5, 6 and 8) with the picture's brightness as
    its guide. For looks: where object and background are of one brightness, it frays.

    Args:
        alpha: uint8 [H, W].
        frame: uint8 [H, W, 3] RGB.
    """
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    target = alpha.astype(np.float32) / 255
    side = 2 * max(2, round(_REACH * alpha.shape[0])) + 1

    def mean(values: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, (side, side)), np.float32)

    mean_guide, mean_target = mean(guide), mean(target)
    slope = (mean(guide * target) - mean_guide * mean_target) / (
        mean(guide * guide) - mean_guide * mean_guide + _EVEN
    )
    found = mean(slope) * guide + mean(mean_target - slope * mean_guide)
    return np.asarray(np.clip(found, 0, 1) * 255 + 0.5, np.uint8)
