"""Geometry and colour of training clips."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]  # [2, 3] affine map in pixels


@dataclass(frozen=True)
class Walk:
    """A smooth path of an affine transform, one pose a frame: drift plus a random walk.

    Args:
        centre: float [T, 2], x and y.
        scale, angle: float [T]; angle in degrees.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    angle: NDArray[np.float64]

    @classmethod
    def sample(
        cls,
        rng: np.random.Generator,
        length: int,
        *,
        centre: tuple[float, float],
        scale: float,
        angle: float,
        speed: float,
    ) -> Walk:
        """Draws a path.

        Args:
            rng: source of chance.
            length: frames.
            centre: first position, pixels.
            scale: first magnification.
            angle: first rotation, degrees.
            speed: standard deviation of the motion a frame, pixels.
        """

        def path(drift: float, noise: float) -> NDArray[np.float64]:
            steps = rng.normal(0, drift) + rng.normal(0, noise, length)
            steps[0] = 0
            return np.cumsum(steps)

        moved = np.stack([path(speed, 0.3 * speed), path(0.7 * speed, 0.3 * speed)], 1)
        return cls(
            np.asarray(centre) + moved,
            scale * np.exp(np.clip(path(0.03, 0.015), -0.7, 0.7)),
            angle + path(3.0, 1.0),
        )

    def matrix(self, index: int, pivot: tuple[float, float], *, mirror: bool = False) -> Matrix:
        """Map from a picture, about ``pivot``, to the clip's frame ``index``."""
        angle, scale = np.deg2rad(self.angle[index]), self.scale[index]
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if mirror:
            turn[:, 0] *= -1
        offset = self.centre[index] - turn @ np.asarray(pivot)
        return np.concatenate([turn, offset[:, None]], 1).astype(np.float32)


def wobble(
    rng: np.random.Generator, length: int, height: int, width: int, strength: float
) -> list[NDArray[np.float32]]:
    """Smooth deformation that changes over a clip.

    Returns:
        float [height, width, 2] for each frame: displacement in pixels, ``strength`` times the
        height at most about its standard deviation.
    """
    low = rng.normal(0, strength * height, (2, 4, 6, 2)).astype(np.float32)
    begin, end = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in low)
    return [begin + (end - begin) * (t / max(1, length - 1)) for t in range(length)]


class Colour:
    """One random change of colour for a clip, with a little more for each frame."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.gain = rng.uniform(0.75, 1.25, 3) if rng.random() < 0.4 else np.full(3, 1.0)
        self.gain *= rng.uniform(0.7, 1.3)
        self.bias = rng.uniform(-25, 25)
        self.saturation = rng.uniform(0.0, 0.3) if rng.random() < 0.06 else rng.uniform(0.6, 1.4)
        self.blur = rng.random() < 0.1

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Changes a frame, uint8 [H, W, 3]."""
        gain = self.gain * self.rng.uniform(0.95, 1.05)
        # Saturation and gain are one 3x3 colour matrix; grey is the luma of BT.601.
        luma = np.array([0.299, 0.587, 0.114])
        mix = self.saturation * np.eye(3) + (1 - self.saturation) * luma[None]
        matrix = np.concatenate([gain[:, None] * mix, np.full((3, 1), self.bias)], 1)
        frame = cv2.transform(frame, matrix).astype(np.uint8, copy=False)
        if self.blur:
            frame = cv2.GaussianBlur(frame, (3, 3), 0).astype(np.uint8, copy=False)
        return frame
