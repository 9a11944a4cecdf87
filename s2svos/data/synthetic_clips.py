"""Clips that need no data: creatures of textured shapes that move over a textured ground.

They have what makes following hard: limbs that swing, deformation, distractors of the object's
own shape and texture, things in front, a ground of the object's texture, a moving camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import Colour, Walk, Wobble
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig
from s2svos.data.scene import Actor, Ground, Part, draw
from s2svos.data.texture import cut_out, outline, texture
from s2svos.data.warp import Matrix, Picture, chained


@dataclass(frozen=True)
class _Limb:
    """A part that hangs on a trunk.

    Args:
        cutout: uint8 [h, w, 4]; it hangs on the middle of its left side.
        joint: where on the trunk, pixels from its middle.
        angle: of rest, and of the swing to each side, degrees.
        pace: swings a frame.
        phase: of the swing, 0 to 1.
    """

    cutout: Picture
    joint: NDArray[np.float64]
    angle: tuple[float, float]
    pace: float
    phase: float

    def maps(self, length: int, trunk: Picture) -> Matrix:
        """From the limb to the trunk in each frame: float32 [T, 2, 3]."""
        rest, swing = self.angle
        beat = np.sin(2 * np.pi * (self.pace * np.arange(length) + self.phase))
        middle = np.array([trunk.shape[1], trunk.shape[0]]) / 2
        hinge = np.tile(middle + self.joint, (length, 1))
        walk = Walk(hinge, np.ones(length), rest + swing * beat)
        return walk.matrices((2.0, self.cutout.shape[0] / 2))


@dataclass(frozen=True)
class _Creature:
    """A trunk and what hangs on it, before it or behind."""

    trunk: Picture
    limbs: Sequence[_Limb]
    behind: int

    def parts(self, walk: Walk) -> list[Part]:
        """From the back to the front, for a clip."""
        trunk = Part.moving(self.trunk, walk)
        length = len(walk.scale)
        limbs = [
            Part(limb.cutout, chained(trunk.maps, limb.maps(length, self.trunk)))
            for limb in self.limbs
        ]
        return [*limbs[: self.behind], trunk, *limbs[self.behind :]]


class SyntheticClips:
    """Draws clips by formula.

    Args:
        config: of the data set.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells of the set, as JSON types."""
        return {"synthetic": True}

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames; it may be one in which the object cannot be seen."""
        number = self.config.synthetic
        skin = _skin(rng, height)
        target = self._creature(rng, height, skin)
        actors = [self._actor(rng, target, length, height, width)]
        for _ in range(rng.integers(0, number.others + 1)):
            kind = rng.random()
            if kind < number.twin:
                other = target
            elif kind < number.twin + number.cousin:
                other = self._creature(rng, height, skin)
            else:
                other = self._creature(rng, height, _skin(rng, height))
            actors.append(self._actor(rng, other, length, height, width))
        actors[0] = replace(actors[0], target=True)
        layers = [actors[i] for i in rng.permutation(len(actors))]
        for _ in range(rng.integers(0, number.front + 1)):
            layers.append(self._front(rng, length, height, width))
        ground = self._ground(rng, length, height, width, skin)
        colour = Colour(rng, self.config.colour)
        frames, masks = draw(ground, layers, colour, length, height, width)
        _add_noise(rng, frames, int(rng.integers(0, number.noise + 1)))
        return Clip(frames, masks, "synthetic")

    def _creature(self, rng: np.random.Generator, height: int, skin: Picture) -> _Creature:
        number = self.config.synthetic
        long = height * np.exp(rng.uniform(*np.log(number.size)))
        sides = np.array([long, long / rng.uniform(1, number.slimness)])
        w, h = np.maximum(rng.permutation(sides), 8).astype(int)
        trunk = cut_out(_piece(rng, skin, h, w), outline(rng))
        pace = rng.uniform(0.02, 0.2)
        limbs = []
        for _ in range(rng.integers(0, number.limbs + 1)):
            direction = rng.uniform(0, 2 * np.pi)
            joint = 0.3 * np.array([w * np.cos(direction), h * np.sin(direction)])
            reach = max(8, int(long * rng.uniform(0.4, 0.9)))
            thick = max(6, int(reach * rng.uniform(0.15, 0.45)))
            limb = cut_out(_piece(rng, skin, thick, reach), outline(rng))
            angle = (np.rad2deg(direction), rng.uniform(0, number.swing))
            limbs.append(_Limb(limb, joint, angle, pace, rng.random()))
        return _Creature(trunk, limbs, int(rng.integers(0, len(limbs) + 1)))

    def _actor(
        self, rng: np.random.Generator, creature: _Creature, length: int, height: int, width: int
    ) -> Actor:
        number = self.config.synthetic
        walk = Walk.sample(
            rng,
            length,
            centre=(width * rng.uniform(0.1, 0.9), height * rng.uniform(0.15, 0.85)),
            scale=1.0,
            angle=rng.normal(0, number.angle),
            speed=number.speed * width * rng.uniform(*number.speed_factor),
        )
        bend = None
        if rng.random() < number.bend_chance:
            bend = Wobble(rng, length, height, width, rng.uniform(*number.bend))
        return Actor(creature.parts(walk), wobble=bend)

    def _front(self, rng: np.random.Generator, length: int, height: int, width: int) -> Actor:
        """A pole, a board or a bush that stands nearly still."""
        h = int(height * rng.uniform(0.3, 1.6))
        w = max(8, int(width * rng.uniform(0.03, 0.25)))
        cutout = cut_out(texture(rng, h, w), outline(rng))
        walk = Walk.sample(
            rng,
            length,
            centre=(width * rng.uniform(0, 1), height * rng.uniform(0, 1)),
            scale=1.0,
            angle=rng.normal(0, 20),
            speed=self.config.synthetic.ground_speed * width,
        )
        return Actor([Part.moving(cutout, walk)])

    def _ground(
        self, rng: np.random.Generator, length: int, height: int, width: int, skin: Picture
    ) -> Ground:
        number = self.config.synthetic
        hidden = rng.random() < number.camouflage
        frame = _piece(rng, skin, height, width) if hidden else texture(rng, height, width)
        walk = Walk.sample(
            rng,
            length,
            centre=(width / 2, height / 2),
            scale=rng.uniform(1.0, 1.5),
            angle=rng.normal(0, 8),
            speed=number.ground_speed * width,
        )
        return Ground(frame, walk, (width / 2, height / 2))


def _skin(rng: np.random.Generator, height: int) -> Picture:
    """A texture that is large enough for every part of a creature."""
    return texture(rng, height, height)


def _piece(rng: np.random.Generator, skin: Picture, height: int, width: int) -> Picture:
    """A random excerpt of a texture, which goes on mirrored where it is too small."""
    y = int(rng.integers(0, max(1, skin.shape[0] - height + 1)))
    x = int(rng.integers(0, max(1, skin.shape[1] - width + 1)))
    piece = skin[y : y + height, x : x + width]
    down, across = height - piece.shape[0], width - piece.shape[1]
    wide = cv2.copyMakeBorder(piece, 0, down, 0, across, cv2.BORDER_REFLECT)
    return wide.astype(np.uint8, copy=False)


def _add_noise(rng: np.random.Generator, frames: NDArray[np.uint8], most: int) -> None:
    """Noise of a sensor, in place: one field, looked at from another corner in every frame."""
    _, height, width, _ = frames.shape
    field = rng.integers(-most, most + 1, (height + 64, width + 64, 3), np.int8)
    for frame in frames:
        y, x = rng.integers(0, 64, 2)
        frame[:] = cv2.add(frame, field[y : y + height, x : x + width], dtype=cv2.CV_8U)
