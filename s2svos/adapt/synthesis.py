"""Training clips made of one frame and its masks, before the video is followed.

As in Lucid Data Dreaming (arXiv 1703.09554), the objects are cut out, the background is filled in
where they were, and all is put together again, each object and the camera with a motion of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import Deformation, Trajectory
from s2svos.data.warp import (
    Grid,
    Matrix,
    Picture,
    compose,
    composite,
    identity_grid,
    invert,
    remap,
    warp_affine,
)
from s2svos_engines.arrays import Frame, Labels, Masks
from s2svos_engines.letterbox import Letterbox, object_masks

OVERSAMPLING = 2  # clips are drawn at twice their size at most, then averaged down
FASTEST = 5  # poses of an object's trajectory between two frames
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
    """A source of clips that begin with the given frame.

    Args:
        frame: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], the objects' ids, 0 for the background; at least one object.
        size: rows and columns of the network's frame.
    """

    def __init__(self, frame: Frame, labels: Labels, size: tuple[int, int]) -> None:
        video_size = (labels.shape[0], labels.shape[1])
        content = Letterbox.of(video_size, size).content
        scale = min(1.0, OVERSAMPLING * content[0] / video_size[0])
        rows, columns = (max(1, round(scale * side)) for side in video_size)
        objects = object_masks(labels, np.unique(labels[labels > 0]))
        self._letterbox = Letterbox.of((rows, columns), size)
        self._frame = _resize(frame, rows, columns)
        self._masks = np.stack([_resize(mask, rows, columns) for mask in objects])
        self._cutouts = [np.dstack([self._frame, mask]) for mask in self._masks]
        self._background = _fill(self._frame, self._masks.max(0))

    def sample(self, rng: np.random.Generator, length: int) -> ObjectClip:
        """Draw a clip: the frame as it is, then ``length - 1`` invented ones."""
        rows, columns = self._letterbox.video_size
        stride = int(rng.integers(1, FASTEST + 1))
        # A camera turns less than what it sees: one pose a frame.
        camera = _motion(rng, length, (columns / 2, rows / 2), speed=0.02 * columns)
        motions = [
            _motion(rng, stride * length, _middle(mask), speed=0.012 * columns)
            for mask in self._masks
        ]
        deformations = [
            Deformation(rng, length, rows, columns, rng.uniform(0, DEFORMATION)) for _ in motions
        ]
        order = rng.permutation(len(motions))

        frames, masks = [self._frame], [self._masks]
        for t in range(1, length):
            grids = [
                invert(compose(camera[t], motion[stride * t]), _since_first(deformation, t))
                for motion, deformation in zip(motions, deformations, strict=True)
            ]
            frame = warp_affine(self._background, camera[t], rows, columns)
            masks.append(self._composite(frame, grids, order.tolist()))
            frames.append(_relight(rng, frame))
        resize = self._letterbox.resize
        return ObjectClip(
            np.stack([resize(frame) for frame in frames]),
            np.stack([[resize(mask) for mask in each] for each in masks]),
        )

    def _composite(self, frame: Frame, grids: Sequence[Grid], order: Sequence[int]) -> Masks:
        """Draw the objects over a frame, in place.

        Args:
            frame: uint8 [H, W, 3].
            grids: what each object samples of the first frame.
            order: of the objects, from the back to the front.

        Returns:
            uint8 [N, H, W], 255 where each is visible.
        """
        masks = np.zeros_like(self._masks)
        for index in order:
            layer = remap(self._cutouts[index], grids[index])
            clear = cv2.bitwise_not(np.ascontiguousarray(layer[:, :, 3]))
            for mask in masks:
                mask[:] = cv2.multiply(mask, clear, scale=1 / 255)
            composite(frame, masks[index : index + 1], layer, number=0)
        return masks


def _motion(
    rng: np.random.Generator, length: int, pivot: tuple[float, float], *, speed: float
) -> Matrix:
    """Draw a trajectory's maps, float32 [T, 2, 3]; the first leaves the picture as it is."""
    trajectory = Trajectory.sample(rng, length, centre=pivot, scale=1.0, angle=0.0, speed=speed)
    return trajectory.matrices(pivot)


def _since_first(deformation: Deformation, index: int) -> Grid:
    """Return the deformation of a frame less that of the first, which stays as it is."""
    first = deformation.grid(0)
    return deformation.grid(index) - first + identity_grid(*first.shape[:2])


def _resize(picture: Picture, rows: int, columns: int) -> Picture:
    resized = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def _middle(mask: Picture) -> tuple[float, float]:
    x, y, width, height = cv2.boundingRect(mask)
    return x + width / 2, y + height / 2


def _relight(rng: np.random.Generator, frame: Frame) -> Frame:
    """Make a frame a little brighter or darker."""
    lit = cv2.convertScaleAbs(frame, alpha=rng.uniform(0.9, 1.1), beta=rng.normal(0, 6))
    return lit.astype(np.uint8, copy=False)


def _fill(frame: Frame, mask: Picture) -> Frame:
    """Fill in what a mask covers of a frame from around it."""
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
    layer = np.dstack([filling, hole]).astype(np.uint8)
    composite(filled, np.zeros_like(mask)[None], layer, number=None)
    return filled
