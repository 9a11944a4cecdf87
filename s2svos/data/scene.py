"""Scenes of several layers: cut-outs that move over a background, and their visible masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import ColourJitter, Deformation, Trajectory
from s2svos.data.warp import (
    Matrix,
    Picture,
    at_level,
    composite,
    invert,
    pyramid_level,
    remap,
    warp_affine,
)
from s2svos_engines.arrays import Frame


@dataclass(frozen=True)
class Background:
    """A picture under a moving camera.

    Args:
        frame: uint8 [h, w, 3].
        trajectory: of the camera.
        pivot: x and y of the picture's point that follows the trajectory.
    """

    frame: Frame
    trajectory: Trajectory
    pivot: tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A cut-out and its maps into the frames of a clip.

    Args:
        cutout: uint8 [h, w, 4], RGB and alpha.
        maps: from the cut-out to each frame of the clip, float32 [T, 2, 3].
    """

    cutout: Picture
    maps: Matrix

    @classmethod
    def moving(cls, cutout: Picture, trajectory: Trajectory) -> Part:
        """Return a cut-out whose middle follows a trajectory."""
        return cls(cutout, trajectory.matrices((cutout.shape[1] / 2, cutout.shape[0] / 2)))

    def reduced(self) -> Part:
        """Return the part with a cut-out small enough to be drawn without aliasing."""
        scale = np.sqrt(np.abs(np.linalg.det(self.maps[:, :, :2]))).mean()
        cutout, level = pyramid_level(self.cutout, float(scale))
        return Part(cutout, at_level(self.maps, level))

    def boxes(self, margin: float, height: int, width: int) -> NDArray[np.int64]:
        """Return the box of each frame that the part can cover, int64 [T, 4].

        Args:
            margin: the largest displacement of a deformation, pixels.
            height, width: of the frame.

        Returns:
            Left, top, right and bottom of each box, the last two exclusive.
        """
        h, w = self.cutout.shape[:2]
        corners = np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]], np.float32)
        mapped = self.maps @ corners
        low, high = np.floor(mapped.min(2) - margin), np.ceil(mapped.max(2) + margin) + 1
        return np.asarray(np.clip(np.hstack([low, high]), 0, (width, height) * 2), np.int64)


@dataclass(frozen=True)
class Actor:
    """Parts that are deformed as one: the object, a distractor, or something in front.

    Args:
        parts: from the back to the front.
        number: of the object that it is, from 0; None for what is in the way.
        deformation: of all parts, in the clip's pixels.
    """

    parts: Sequence[Part]
    number: int | None = None
    deformation: Deformation | None = None


def draw(
    background: Background,
    actors: Sequence[Actor],
    colour: ColourJitter,
    length: int,
    height: int,
    width: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene.

    Args:
        background: behind all actors.
        actors: from the back to the front.
        colour: change of the finished frames.
        length, height, width: of the clip.

    Returns:
        Frames, uint8 [T, H, W, 3], RGB, and masks, uint8 [T, K, H, W], 255 where each of the K
        objects is seen.
    """
    trajectory = background.trajectory
    behind, level = pyramid_level(background.frame, float(trajectory.scale.mean()))
    views = at_level(trajectory.matrices(background.pivot), level)
    drawn = []
    for actor in actors:
        margin = 0.0 if actor.deformation is None else actor.deformation.max_displacement
        parts = [part.reduced() for part in actor.parts]
        drawn += [(actor, part, part.boxes(margin, height, width)) for part in parts]

    frames = np.empty((length, height, width, 3), np.uint8)
    objects = sum(actor.number is not None for actor in actors)
    masks = np.zeros((length, objects, height, width), np.uint8)
    for t, view in enumerate(views):
        frame = warp_affine(behind, view, height, width)
        for actor, part, boxes in drawn:
            left, top, right, bottom = boxes[t].tolist()
            if left < right and top < bottom:
                region = np.s_[top:bottom, left:right]
                layer = _layer(part, actor.deformation, t, region)
                composite(frame[region], masks[t][:, *region], layer, number=actor.number)
        frames[t] = colour(frame)
    return frames, masks


def _layer(
    part: Part, deformation: Deformation | None, t: int, region: tuple[slice, slice]
) -> Picture:
    """Draw a part alone on a region of frame ``t``, uint8 [h, w, 4]."""
    rows, columns = region
    if deformation is not None:
        return remap(part.cutout, invert(part.maps[t], deformation.grid(t, region)))
    shift = np.array([[0, 0, columns.start], [0, 0, rows.start]], np.float32)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return warp_affine(part.cutout, part.maps[t] - shift, height, width)
