"""Objects painted over the frames, and the video of them."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from s2svos.video.masks import davis_palette

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Ids = NDArray[np.uint8]  # [H, W] object ids, 0 for the background

OPACITY = 0.5
_CONTOUR = np.ones((5, 5), np.uint8)  # reaches two pixels from an edge
_DARKEST = 32  # a palette's colour below that cannot be seen on a picture
_BT601, _LIMITED_RANGE = 5, 1  # what OpenCV's conversion makes; FFmpeg's numbers


@lru_cache(maxsize=8)
def overlay_colours(palette: bytes) -> NDArray[np.uint8]:
    """Colours to paint ids with: the palette's at full brightness, DAVIS's where it is black.

    In DAVIS's palette id 255, the object of a black and white mask, is a pale grey that is hard to
    see on a picture; it is painted as id 1.

    Args:
        palette: 768 bytes.

    Returns:
        uint8 [256, 1, 3], read-only.
    """
    davis = np.frombuffer(davis_palette(), np.uint8).reshape(256, 1, 3)
    given = np.frombuffer(palette, np.uint8).reshape(256, 1, 3)
    visible = np.where(given.max(axis=2, keepdims=True) < _DARKEST, davis, given).astype(float)
    visible[0] = 1.0  # never painted
    if (visible[255] == davis[255]).all():
        visible[255] = visible[1]
    colours: NDArray[np.uint8] = (
        (visible * (255 / visible.max(axis=2, keepdims=True))).round().astype(np.uint8)
    )
    colours.flags.writeable = False
    return colours


def paint(frame: Frame, ids: Ids, palette: bytes) -> Frame:
    """Lays translucent objects with full-coloured contours over a frame.

    Args:
        frame: uint8 [H, W, 3], RGB; not changed.
        ids: uint8 [H, W].
        palette: 768 bytes.

    Returns:
        uint8 [H, W, 3].
    """
    painted = frame.copy()
    x, y, width, height = cv2.boundingRect(ids)
    if not width:
        return painted
    box = np.s_[y : y + height, x : x + width]
    inside = np.ascontiguousarray(ids[box])
    colours = cv2.applyColorMap(inside, overlay_colours(palette))
    blended = cv2.addWeighted(frame[box], 1 - OPACITY, colours, OPACITY, 0)
    # Objects end where the box does, unless the picture ends there too: pad it with background.
    outside = cv2.copyMakeBorder(inside, *_margins(ids.shape, box), cv2.BORDER_CONSTANT, value=0)
    top, _, left, _ = _margins(ids.shape, box)
    lowest = cv2.erode(outside, _CONTOUR)[top : top + height, left : left + width]
    highest = cv2.dilate(outside, _CONTOUR)[top : top + height, left : left + width]
    contour = cv2.bitwise_and(cv2.compare(lowest, highest, cv2.CMP_NE), inside)
    cv2.copyTo(colours, contour, blended)
    painted[box] = cv2.copyTo(blended, inside, painted[box])
    return painted


def _margins(shape: tuple[int, ...], box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    """Pixels of the picture, two at most, above, below, left and right of a box."""
    rows, columns = box
    return (
        min(2, rows.start),
        min(2, shape[0] - rows.stop),
        min(2, columns.start),
        min(2, shape[1] - columns.stop),
    )


class OverlayWriter:
    """An H.264 video that grows by one frame at a time; has its name once it is whole.

    Args:
        path: of the MP4; until it is closed the file is called ``<name>.part``.
        width, height: of the frames; odd ones grow by a pixel that repeats the border.
        rate: frames a second.
        threads: of the encoder; one, so that the network keeps the other cores.
    """

    def __init__(
        self, path: Path, *, width: int, height: int, rate: Fraction, threads: int = 1
    ) -> None:
        self.path = path
        self.frames = 0
        self._part = path.with_name(f"{path.name}.part")
        self._odd = height % 2, width % 2
        self._container = av.open(self._part, "w", format="mp4", options={"movflags": "+faststart"})
        # superfast: 6.5 ms a frame at 854x480, veryfast 10.5 ms for a sixth fewer bytes,
        # ultrafast 3.8 ms for three times as many.
        options = {"preset": "superfast", "crf": "23", "threads": str(threads)}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = _BT601
        stream.codec_context.color_range = _LIMITED_RANGE
        self._stream = stream
        self._time_base = 1 / rate
        self._open = True

    def write(self, frame: Frame) -> None:
        """Appends a frame, uint8 [H, W, 3] RGB.

        Raises:
            OSError: the file cannot be written.
        """
        rows, columns = self._odd
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        # OpenCV converts in 0.3 ms at 854x480, FFmpeg's scaler in 1.4 ms.
        planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = self.frames
        picture.time_base = self._time_base
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self, *, keep: bool) -> None:
        """Finishes the video with the frames written so far, or deletes it; once.

        Args:
            keep: False deletes it; so does True where there is no frame.

        Raises:
            OSError: it cannot be finished; it is deleted.
        """
        if not self._open:
            return
        self._open = False
        whole = False
        try:
            if keep and self.frames:
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._part.replace(self.path)
                whole = True
        finally:
            if not whole:
                self._discard()

    def _discard(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # it cannot be finished: that is why it goes
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(keep=error is None)
