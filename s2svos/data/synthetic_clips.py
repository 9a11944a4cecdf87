"""Clips that need no data: creatures of textured shapes that move over a textured background.

They have what makes tracking hard: limbs that swing, deformation, distractors of the object's own
shape and texture, occluders, a background of the object's texture, a moving camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import ColourJitter, Deformation, Trajectory
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig
from s2svos.data.scene import Actor, Background, Part, draw
from s2svos.data.texture import cut_out, outline, texture
from s2svos.data.warp import Matrix, Picture, compose


@dataclass(frozen=True)
class _Limb:
    """A part that hangs on a trunk by the middle of its left side.

    Args:
        cutout: uint8 [h, w, 4].
        joint: its place on the trunk, x and y in pixels from the trunk's middle.
        angle: of rest, and of the swing to each side, degrees.
        frequency: swings a frame.
        phase: of the swing, 0 to 1.
    """

    cutout: Picture
    joint: NDArray[np.float64]
    angle: tuple[float, float]
    frequency: float
    phase: float

    def maps(self, length: int, trunk: Picture) -> Matrix:
        """Return the map from the limb to the trunk in each frame, float32 [T, 2, 3]."""
        rest, swing = self.angle
        wave = np.sin(2 * np.pi * (self.frequency * np.arange(length) + self.phase))
        middle = np.array([trunk.shape[1], trunk.shape[0]]) / 2
        hinge = np.tile(middle + self.joint, (length, 1))
        trajectory = Trajectory(hinge, np.ones(length), rest + swing * wave)
        return trajectory.matrices((2.0, self.cutout.shape[0] / 2))


@dataclass(frozen=True)
class _Creature:
    """A trunk with limbs.

    Args:
        trunk: uint8 [h, w, 4].
        limbs: from the back to the front.
        behind: how many of them lie behind the trunk.
    """

    trunk: Picture
    limbs: Sequence[_Limb]
    behind: int

    def parts(self, trajectory: Trajectory) -> list[Part]:
        """Return trunk and limbs from the back to the front, the trunk on a trajectory."""
        trunk = Part.moving(self.trunk, trajectory)
        length = len(trajectory.scale)
        limbs = [
            Part(limb.cutout, compose(trunk.maps, limb.maps(length, self.trunk)))
            for limb in self.limbs
        ]
        return [*limbs[: self.behind], trunk, *limbs[self.behind :]]


class SyntheticClips:
    """A source of clips drawn by formula.

    Args:
        config: of the data set.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's record of the set, as JSON types."""
        return {"synthetic": True}

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of ``length`` frames; its object may be out of sight."""
        sampling = self._config.synthetic
        skin = _skin(rng, height)
        target = self._creature(rng, height, skin)
        actors = [self._actor(rng, target, length, height, width)]
        for _ in range(rng.integers(0, sampling.others + 1)):
            kind = rng.random()
            if kind < sampling.twin:
                other = target
            elif kind < sampling.twin + sampling.cousin:
                other = self._creature(rng, height, skin)
            else:
                other = self._creature(rng, height, _skin(rng, height))
            actors.append(self._actor(rng, other, length, height, width))
        actors = [replace(actor, number=number) for number, actor in enumerate(actors)]
        ordered = [actors[i] for i in rng.permutation(len(actors))]
        for _ in range(rng.integers(0, sampling.front + 1)):
            ordered.append(self._occluder(rng, length, height, width))
        background = self._background(rng, length, height, width, skin)
        colour = ColourJitter(rng, self._config.colour)
        frames, masks = draw(background, ordered, colour, length, height, width)
        _add_noise(rng, frames, int(rng.integers(0, sampling.noise + 1)))
        return Clip(frames, masks, "synthetic")

    def _creature(self, rng: np.random.Generator, height: int, skin: Picture) -> _Creature:
        sampling = self._config.synthetic
        long = height * np.exp(rng.uniform(*np.log(sampling.size)))
        sides = np.array([long, long / rng.uniform(1, sampling.slimness)])
        w, h = np.maximum(rng.permutation(sides), 8).astype(int)
        trunk = cut_out(_piece(rng, skin, h, w), outline(rng))
        frequency = rng.uniform(0.02, 0.2)
        limbs = []
        for _ in range(rng.integers(0, sampling.limbs + 1)):
            direction = rng.uniform(0, 2 * np.pi)
            joint = 0.3 * np.array([w * np.cos(direction), h * np.sin(direction)])
            reach = max(8, int(long * rng.uniform(0.4, 0.9)))
            thick = max(6, int(reach * rng.uniform(0.15, 0.45)))
            limb = cut_out(_piece(rng, skin, thick, reach), outline(rng))
            angle = (np.rad2deg(direction), rng.uniform(0, sampling.swing))
            limbs.append(_Limb(limb, joint, angle, frequency, rng.random()))
        return _Creature(trunk, limbs, int(rng.integers(0, len(limbs) + 1)))

    def _actor(
        self, rng: np.random.Generator, creature: _Creature, length: int, height: int, width: int
    ) -> Actor:
        sampling = self._config.synthetic
        trajectory = Trajectory.sample(
            rng,
            length,
            centre=(width * rng.uniform(0.1, 0.9), height * rng.uniform(0.15, 0.85)),
            scale=1.0,
            angle=rng.normal(0, sampling.angle),
            speed=sampling.speed * width * rng.uniform(*sampling.speed_factor),
        )
        deformation = None
        if rng.random() < sampling.bend_chance:
            deformation = Deformation(rng, length, height, width, rng.uniform(*sampling.bend))
        return Actor(creature.parts(trajectory), deformation=deformation)

    def _occluder(self, rng: np.random.Generator, length: int, height: int, width: int) -> Actor:
        """Draw a pole, a board or a bush that stands nearly still."""
        h = int(height * rng.uniform(0.3, 1.6))
        w = max(8, int(width * rng.uniform(0.03, 0.25)))
        cutout = cut_out(texture(rng, h, w), outline(rng))
        trajectory = Trajectory.sample(
            rng,
            length,
            centre=(width * rng.uniform(0, 1), height * rng.uniform(0, 1)),
            scale=1.0,
            angle=rng.normal(0, 20),
            speed=self._config.synthetic.ground_speed * width,
        )
        return Actor([Part.moving(cutout, trajectory)])

    def _background(
        self, rng: np.random.Generator, length: int, height: int, width: int, skin: Picture
    ) -> Background:
        sampling = self._config.synthetic
        hidden = rng.random() < sampling.camouflage
        frame = _piece(rng, skin, height, width) if hidden else texture(rng, height, width)
        trajectory = Trajectory.sample(
            rng,
            length,
            centre=(width / 2, height / 2),
            scale=rng.uniform(1.0, 1.5),
            angle=rng.normal(0, 8),
            speed=sampling.ground_speed * width,
        )
        return Background(frame, trajectory, (width / 2, height / 2))


def _skin(rng: np.random.Generator, height: int) -> Picture:
    """Draw a texture that is large enough for every part of a creature."""
    return texture(rng, height, height)


def _piece(rng: np.random.Generator, skin: Picture, height: int, width: int) -> Picture:
    """Draw an excerpt of a texture, which is mirrored at its borders if it is too small."""
    y = int(rng.integers(0, max(1, skin.shape[0] - height + 1)))
    x = int(rng.integers(0, max(1, skin.shape[1] - width + 1)))
    piece = skin[y : y + height, x : x + width]
    down, across = height - piece.shape[0], width - piece.shape[1]
    wide = cv2.copyMakeBorder(piece, 0, down, 0, across, cv2.BORDER_REFLECT)
    return wide.astype(np.uint8, copy=False)


def _add_noise(rng: np.random.Generator, frames: NDArray[np.uint8], largest: int) -> None:
    """Add a sensor's noise to frames in place: another excerpt of one field in every frame."""
    _, height, width, _ = frames.shape
    field = rng.integers(-largest, largest + 1, (height + 64, width + 64, 3), np.int8)
    for frame in frames:
        y, x = rng.integers(0, 64, 2)
        frame[:] = cv2.add(frame, field[y : y + height, x : x + width], dtype=cv2.CV_8U)
