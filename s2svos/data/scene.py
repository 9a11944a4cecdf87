"""Scenes of several layers: cut-outs that move over a ground, and what is seen of the object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import Colour, Walk, Wobble
from s2svos.data.warp import Matrix, Picture, bent, for_halved, halved, lay, taken_back, warp

Point = tuple[float, float]


@dataclass(frozen=True)
class Ground:
    """A picture under a moving camera.

    Args:
        frame: uint8 [h, w, 3].
        walk: of the camera.
        pivot: point of the picture that follows the walk.
    """

    frame: Picture
    walk: Walk
    pivot: Point


@dataclass(frozen=True)
class Part:
    """A cut-out and its way through a clip.

    Args:
        cutout: uint8 [h, w, 4], RGB and alpha.
        maps: from the cut-out to each frame of the clip, float32 [T, 2, 3].
    """

    cutout: Picture
    maps: Matrix

    @classmethod
    def moving(cls, cutout: Picture, walk: Walk) -> Part:
        """A cut-out whose middle follows a walk."""
        return cls(cutout, walk.matrices((cutout.shape[1] / 2, cutout.shape[0] / 2)))

    def halved(self) -> Part:
        """The same, from a cut-out that is small enough to be drawn without aliasing."""
        scale = np.sqrt(np.abs(np.linalg.det(self.maps[:, :, :2]))).mean()
        cutout, times = halved(self.cutout, float(scale))
        return Part(cutout, for_halved(self.maps, times))

    def boxes(self, reach: float, height: int, width: int) -> NDArray[np.int64]:
        """What the part can cover of each frame: left, top, right and bottom, int [T, 4].

        Args:
            reach: how far a deformation can carry it, pixels.
            height, width: of the frame.
        """
        h, w = self.cutout.shape[:2]
        corners = np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]], np.float32)
        places = self.maps @ corners
        low, high = np.floor(places.min(2) - reach), np.ceil(places.max(2) + reach) + 1
        return np.asarray(np.clip(np.hstack([low, high]), 0, (width, height) * 2), np.int64)


@dataclass(frozen=True)
class Actor:
    """What moves as one: the object, a distractor, or something in front.

    Args:
        parts: laid one over the other.
        target: it is the object.
        wobble: its deformation, in the clip's pixels.
    """

    parts: Sequence[Part]
    target: bool = False
    wobble: Wobble | None = None


def draw(
    ground: Ground, actors: Sequence[Actor], colour: Colour, length: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws a scene.

    Args:
        ground: what lies behind all.
        actors: from the back to the front.
        colour: change of the finished frames.
        length, height, width: of the clip.

    Returns:
        uint8 [T, H, W, 3], RGB, and uint8 [T, H, W], 255 where the object is seen.
    """
    floor, times = halved(ground.frame, float(ground.walk.scale.mean()))
    views = for_halved(ground.walk.matrices(ground.pivot), times)
    drawn = []
    for actor in actors:
        reach = 0.0 if actor.wobble is None else actor.wobble.reach
        small = [part.halved() for part in actor.parts]
        drawn += [(actor, part, part.boxes(reach, height, width)) for part in small]

    frames = np.empty((length, height, width, 3), np.uint8)
    masks = np.zeros((length, height, width), np.uint8)
    for t, view in enumerate(views):
        frame = warp(floor, view, height, width)
        for actor, part, boxes in drawn:
            left, top, right, bottom = boxes[t].tolist()
            if left < right and top < bottom:
                region = np.s_[top:bottom, left:right]
                layer = _layer(part, actor.wobble, t, region)
                lay(frame[region], masks[t][region], layer, target=actor.target)
        frames[t] = colour(frame)
    return frames, masks


def _layer(part: Part, wobble: Wobble | None, t: int, region: tuple[slice, slice]) -> Picture:
    """What a region of frame ``t`` shows of a part: uint8 [h, w, 4]."""
    rows, columns = region
    if wobble is not None:
        return bent(part.cutout, taken_back(part.maps[t], wobble.places(t, region)))
    shift = np.array([[0, 0, columns.start], [0, 0, rows.start]], np.float32)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return warp(part.cutout, part.maps[t] - shift, height, width)
