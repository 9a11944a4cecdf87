"""The part of the frames that the network sees: a window that follows the objects.

The network's frame is small, so its pixels belong where the objects are. A window has the network's
aspect ratio where the objects allow it; it is moved seldom, since a move costs two or more calls of
``init``, and while the objects stay well inside it is left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks
from s2svos_engines.letterbox import Letterbox, Region

TARGET = 0.75  # share of the window's height or width that the objects take
MIN_ZOOM = 1.2  # a window that would enlarge less than this is not worth a move: the whole frame
MAX_ENLARGEMENT = 2.0  # pixels of the network for one of the video
MARGIN = 0.06  # of the window: objects nearer to its edge move it
BAND = 0.65, 1.35  # of the window's size: objects that want another one move it
HISTORY = 20  # frames whose largest extent counts, so that objects half hidden do not shrink it
SPEED_FRAMES = 5  # over which the objects' speed is measured
LEAD_FRAMES = 12  # of the objects' way that a window that moves leaves room for
SCRAP = 0.05  # share of the objects' recent extent below which they count as not seen
LOST_AFTER = 3  # frames without an object after which it is looked for in the whole frame


class WindowMode(StrEnum):
    """Which part of the frames the network sees."""

    AUTO = "auto"  # a window that follows the objects
    OFF = "off"  # always the whole frame


class Box(NamedTuple):
    """A rectangle in pixels of the video."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def size(self) -> tuple[float, float]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def moved(self, down: float, right: float) -> Box:
        """Return the box so far away."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the middle."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2


def mask_boxes(masks: Masks) -> list[Box | None]:
    """Return the box of each mask, uint8 [N, h, w] with an object from 128 on, in its pixels.

    None for a mask without an object.
    """
    boxes: list[Box | None] = []
    for mask in masks:
        left, top, width, height = cv2.boundingRect(
            cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1]
        )
        boxes.append(Box(top, left, top + height, left + width) if width else None)
    return boxes


def object_boxes(masks: Masks, letterbox: Letterbox) -> list[Box | None]:
    """Return the boxes of the network's masks, uint8 [N, h, w], in pixels of the video."""
    rows, columns = letterbox.content
    (down, right), (top, left, *_) = letterbox.scale, letterbox.region
    return [
        box
        and Box(
            top + box.top * down,
            left + box.left * right,
            top + box.bottom * down,
            left + box.right * right,
        )
        for box in mask_boxes(masks[:, :rows, :columns])
    ]


def union(boxes: Sequence[Box]) -> Box:
    """Return the box around several."""
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


class FollowingWindow:
    """Decides where the window of a stream lies.

    Args:
        video_size: rows and columns of the video.
        network_size: rows and columns of the network's frame.
        delay: frames from one after which a move is decided to the first that is seen through it.
    """

    def __init__(
        self, video_size: tuple[int, int], network_size: tuple[int, int], *, delay: int = 1
    ) -> None:
        self._video_size, self._network_size, self.delay = video_size, network_size, delay
        self._whole = Letterbox.of(video_size, network_size)
        self._extents: deque[tuple[float, float]] = deque(maxlen=HISTORY)
        self._centres: deque[tuple[float, float]] = deque(maxlen=HISTORY)
        self._lost = 0

    def around(self, box: Box, *, size: tuple[int, ...] | None = None) -> Letterbox:
        """Return the letterbox of a window around a box.

        Args:
            box: of the objects.
            size: rows and columns of the window, if they are known and the box fits; None for
                those that suit the box.
        """
        if size and box.size[0] < 0.9 * size[0] and box.size[1] < 0.9 * size[1]:
            return self._at(box.centre, (size[0], size[1]))
        return self._at(box.centre, self._suitable(box.size))

    def update(self, boxes: Sequence[Box | None], current: Letterbox) -> Letterbox | None:
        """Return the letterbox of the window to move to; None to stay.

        Args:
            boxes: of all objects on the latest frame; None for one that is not seen.
            current: of the latest frame.
        """
        seen = [box for box in boxes if box]
        if len(seen) < len(boxes) or self._is_scrap(union(seen)):
            self._lost += 1
            return self._whole if self._lost >= LOST_AFTER and not current.whole else None
        self._lost = 0
        box = union(seen)
        self._extents.append(box.size)
        self._centres.append(box.centre)
        speed = self._speed()
        ahead = union([box, box.moved(*((self.delay + 1) * pixels for pixels in speed))])
        height, width = (
            max(one, *sizes)
            for one, sizes in zip(ahead.size, zip(*self._extents, strict=True), strict=True)
        )
        size = self._suitable((height, width))
        wanted = self._at(self._led(ahead, size, speed), size)
        ratio = wanted.region.columns / current.region.columns
        inside = self._is_inside(ahead, current.region)
        if wanted.region == current.region or (inside and BAND[0] < ratio < BAND[1]):
            return None
        return wanted

    def history(self) -> dict[str, NDArray[np.float64]]:
        """Return what decisions depend on, as arrays, for :meth:`resume`."""
        return {
            "extents": np.array(self._extents, np.float64).reshape(-1, 2),
            "centres": np.array(self._centres, np.float64).reshape(-1, 2),
            "lost": np.array([self._lost], np.float64),
        }

    def resume(self, history: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on from the history of another window."""
        self._extents.extend((float(y), float(x)) for y, x in history["extents"])
        self._centres.extend((float(y), float(x)) for y, x in history["centres"])
        self._lost = int(history["lost"][0])

    def _is_scrap(self, box: Box) -> bool:
        """Return whether a box is much smaller than the objects lately were."""
        areas = [height * width for height, width in self._extents]
        return bool(areas) and box.size[0] * box.size[1] < SCRAP * max(areas)

    def _speed(self) -> tuple[float, float]:
        """Return how many pixels the objects move a frame, down and right.

        The median of the latest frames: where an object is partly hidden, its middle jumps.
        """
        recent = np.array(self._centres)[-1 - SPEED_FRAMES :]
        if len(recent) < 3:
            return 0.0, 0.0
        down, right = np.median(np.diff(recent, axis=0), 0).tolist()
        return down, right

    def _led(
        self, box: Box, size: tuple[int, int], speed: tuple[float, float]
    ) -> tuple[float, float]:
        """Return the middle of a window that has most of its room where the objects are going."""

        def led(centre: float, own: float, whole: int, pixels: float) -> float:
            room = max((whole - own) / 2 - 2 * MARGIN * whole, 0.0)
            return centre + min(max(LEAD_FRAMES * pixels, -room), room)

        down, right = map(led, box.centre, box.size, size, speed)
        return down, right

    def _suitable(self, extent: tuple[float, float]) -> tuple[int, int]:
        """Return rows and columns of a window for objects of a height and width."""
        aspect = self._network_size[1] / self._network_size[0]
        rows, columns = (
            max(own / TARGET, network / MAX_ENLARGEMENT)
            for own, network in zip(extent, self._network_size, strict=True)
        )
        columns = max(columns, rows * aspect)
        return self._limited((round(columns / aspect), round(columns)))

    def _limited(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return a size that lies in the frame; the frame's own where that is about as good."""
        rows, columns = (min(own, whole) for own, whole in zip(size, self._video_size, strict=True))
        sized = Letterbox.of(self._video_size, self._network_size, Region(0, 0, rows, columns))
        return (rows, columns) if self._zoom(sized) >= MIN_ZOOM else self._video_size

    def _zoom(self, letterbox: Letterbox) -> float:
        return self._whole.scale[0] / letterbox.scale[0]

    def _at(self, centre: tuple[float, float], size: tuple[int, int]) -> Letterbox:
        """Return the letterbox of a window of a size, as near to a centre as the frame allows."""
        top, left = (
            min(max(round(middle - own / 2), 0), whole - own)
            for middle, own, whole in zip(centre, size, self._video_size, strict=True)
        )
        return Letterbox.of(self._video_size, self._network_size, Region(top, left, *size))

    def _is_inside(self, box: Box, region: Region) -> bool:
        """Return whether a box keeps its distance from the window's edges, the frame's excepted."""
        top, left, rows, columns = region
        down, right = MARGIN * rows, MARGIN * columns
        return not (
            (top > 0 and box.top < top + down)
            or (left > 0 and box.left < left + right)
            or (top + rows < self._video_size[0] and box.bottom > top + rows - down)
            or (left + columns < self._video_size[1] and box.right > left + columns - right)
        )
