"""Short clips made of one frame and its masks: what is known of a video before it is followed.

As in Lucid Data Dreaming (arXiv 1703.09554), the objects are cut out, the background is filled in
where they were, and all is put together again, each object and the camera with a motion of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import Walk, Wobble
from s2svos.data.warp import Picture, Places, bent, chained, grid, lay, taken_back, warp
from s2svos_engines.letterbox import Letterbox, object_masks

OVERSAMPLING = 2  # clips are drawn at twice their size at most, then averaged down
FASTEST = 5  # poses of an object's walk between two frames
DEFORMATION = 0.015  # largest standard deviation, in frame heights
FILL_SHRINK = 4  # the background is smooth where it is invented: a quarter of the size is enough


@dataclass(frozen=True)
class ObjectClip:
    """A clip of several objects at the network's size.

    Args:
        frames: uint8 [T, h, w, 3], RGB.
        masks: uint8 [T, N, h, w], 255 for the object.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


class FirstFrame:
    """Draws clips that begin with the given frame.

    Args:
        frame: uint8 [H, W, 3], RGB.
        ids: uint8 [H, W], the objects' ids, 0 for the background; at least one object.
        size: rows and columns of the network's frame.
    """

    def __init__(self, frame: Picture, ids: Picture, size: tuple[int, int]) -> None:
        native = (ids.shape[0], ids.shape[1])
        scale = min(1.0, OVERSAMPLING * Letterbox.of(native, size).content[0] / native[0])
        rows, columns = (max(1, round(scale * own)) for own in native)
        objects = object_masks(ids, np.unique(ids[ids > 0]))
        self._letterbox = Letterbox.of((rows, columns), size)
        self._frame = _resized(frame, rows, columns)
        self._masks = np.stack([_resized(mask, rows, columns) for mask in objects])
        self._cutouts = [np.dstack([self._frame, mask]) for mask in self._masks]
        self._background = _filled(self._frame, self._masks.max(0))

    def sample(self, rng: np.random.Generator, length: int) -> ObjectClip:
        """A clip: the frame as it is, then ``length - 1`` invented ones."""
        rows, columns = self._letterbox.video_size
        stride = int(rng.integers(1, FASTEST + 1))
        # A camera turns less than what it sees: one pose a frame.
        camera = _Motion(rng, length, (columns / 2, rows / 2), speed=0.02 * columns)
        motions = [
            _Motion(rng, stride * length, _middle(mask), speed=0.012 * columns)
            for mask in self._masks
        ]
        wobbles = [Wobble(rng, length, rows, columns, rng.uniform(0, DEFORMATION)) for _ in motions]
        order = rng.permutation(len(motions))

        frames, masks = [self._frame], [self._masks]
        for t in range(1, length):
            view = camera.matrix(t)
            maps = [chained(view, motion.matrix(stride * t)) for motion in motions]
            places = [
                taken_back(matrix, _change(wobble, t))
                for matrix, wobble in zip(maps, wobbles, strict=True)
            ]
            frame = warp(self._background, view, rows, columns)
            masks.append(self._composed(frame, places, order.tolist()))
            frames.append(_lit(rng, frame))
        resize = self._letterbox.resize
        return ObjectClip(
            np.stack([resize(frame) for frame in frames]),
            np.stack([[resize(mask) for mask in each] for each in masks]),
        )

    def _composed(
        self, frame: Picture, places: Sequence[Places], order: Sequence[int]
    ) -> NDArray[np.uint8]:
        """Lays the objects over a frame, in place; returns what is seen of each, [N, H, W]."""
        masks = np.zeros_like(self._masks)
        for index in order:
            layer = bent(self._cutouts[index], places[index])
            clear = cv2.bitwise_not(np.ascontiguousarray(layer[:, :, 3]))
            for mask in masks:
                mask[:] = cv2.multiply(mask, clear, scale=1 / 255)
            lay(frame, masks[index], layer, target=True)
        return masks


class _Motion:
    """A walk that begins with the picture as it is."""

    def __init__(
        self, rng: np.random.Generator, length: int, start: tuple[float, float], *, speed: float
    ) -> None:
        self._walk = Walk.sample(rng, length, centre=start, scale=1.0, angle=0.0, speed=speed)
        self._start = start

    def matrix(self, index: int) -> NDArray[np.float32]:
        return self._walk.matrix(index, self._start)


def _change(wobble: Wobble, index: int) -> Places:
    """The deformation since the first frame, which is not deformed."""
    first = wobble.places(0)
    return wobble.places(index) - first + grid(*first.shape[:2])


def _resized(picture: Picture, rows: int, columns: int) -> Picture:
    resized = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def _middle(mask: Picture) -> tuple[float, float]:
    x, y, width, height = cv2.boundingRect(mask)
    return x + width / 2, y + height / 2


def _lit(rng: np.random.Generator, frame: Picture) -> Picture:
    """A little brighter or darker."""
    lit = cv2.convertScaleAbs(frame, alpha=rng.uniform(0.9, 1.1), beta=rng.normal(0, 6))
    return lit.astype(np.uint8, copy=False)


def _filled(frame: Picture, mask: Picture) -> Picture:
    """The frame without what the mask covers, filled in from around it."""
    rows, columns = mask.shape
    small = (max(1, columns // FILL_SHRINK), max(1, rows // FILL_SHRINK))
    near = np.ones((2 * FILL_SHRINK + 1,) * 2, np.uint8)
    hole = cv2.dilate((mask > 0).astype(np.uint8) * np.uint8(255), near).astype(np.uint8)
    coarse = cv2.resize(hole, small, interpolation=cv2.INTER_AREA)
    filling = cv2.inpaint(
        cv2.resize(frame, small, interpolation=cv2.INTER_AREA), coarse, 3, cv2.INPAINT_TELEA
    )
    filling = cv2.resize(filling, (columns, rows), interpolation=cv2.INTER_LINEAR)
    filled = frame.copy()
    lay(filled, np.zeros_like(mask), np.dstack([filling, hole]).astype(np.uint8), target=False)
    return filled
