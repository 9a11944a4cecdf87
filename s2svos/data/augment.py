"""Random geometry and colour of training clips."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.config import ColourSampling
from s2svos.data.warp import Grid, Matrix, identity_grid
from s2svos_engines.arrays import Frame


@dataclass(frozen=True)
class Trajectory:
    """A smooth path of an affine transform, one pose a frame: drift plus a random walk.

    Args:
        centre: float [T, 2], x and y, pixels.
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
    ) -> Trajectory:
        """Draw a path.

        Args:
            rng: random numbers.
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

    def matrices(self, pivot: tuple[float, float], *, mirror: bool = False) -> Matrix:
        """Return the map from a picture to each frame of the clip, float32 [T, 2, 3].

        Args:
            pivot: x and y of the picture's point that follows the path.
            mirror: the picture is mirrored left to right first.
        """
        angle = np.deg2rad(self.angle)
        turn = self.scale * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        if mirror:
            turn[:, 0] *= -1
        turn = turn.transpose(2, 0, 1)
        offset = self.centre - turn @ np.asarray(pivot)
        return np.concatenate([turn, offset[..., None]], 2).astype(np.float32)


class Deformation:
    """A smooth free-form deformation that changes over a clip.

    Args:
        rng: random numbers.
        length: frames.
        height, width: of the clip.
        strength: standard deviation of the displacement, in heights.

    Attributes:
        max_displacement: pixels.
    """

    def __init__(
        self, rng: np.random.Generator, length: int, height: int, width: int, strength: float
    ) -> None:
        low = rng.normal(0, strength * height, (2, 4, 6, 2)).astype(np.float32)
        size = (width, height)
        fields = [cv2.resize(field, size, interpolation=cv2.INTER_CUBIC) for field in low]
        self.max_displacement = float(max(abs(field).max() for field in fields))
        self._length = length
        self._first, self._last = (identity_grid(height, width) + field for field in fields)

    def grid(self, index: int, region: tuple[slice, slice] = np.s_[:, :]) -> Grid:
        """Return what the pixels of a region of frame ``index`` sample, float32 [h, w, 2]."""
        share = index / max(1, self._length - 1)
        mixed = cv2.addWeighted(self._first[region], 1 - share, self._last[region], share, 0)
        return np.asarray(mixed, np.float32)


class ColourJitter:
    """One random change of colour for a clip, with a little more for each frame.

    Args:
        rng: random numbers, also for each frame.
        sampling: how strong.
    """

    def __init__(self, rng: np.random.Generator, sampling: ColourSampling) -> None:
        self._rng, self._frame_gain = rng, sampling.frame_gain
        by_channel = rng.random() < sampling.channel_gain_chance
        self._gain = rng.uniform(*sampling.channel_gain, 3) if by_channel else np.full(3, 1.0)
        self._gain *= rng.uniform(*sampling.gain)
        self._bias = rng.uniform(*sampling.bias)
        pale = rng.random() < sampling.pale_chance
        self._saturation = rng.uniform(*(sampling.pale if pale else sampling.saturation))
        self._blur = rng.random() < sampling.blur_chance

    def __call__(self, frame: Frame) -> Frame:
        """Return the changed frame, uint8 [H, W, 3]."""
        gain = self._gain * self._rng.uniform(*self._frame_gain)
        # Saturation and gain are one 3x3 colour matrix; grey is the luma of BT.601.
        luma = np.array([0.299, 0.587, 0.114])
        mix = self._saturation * np.eye(3) + (1 - self._saturation) * luma[None]
        matrix = np.concatenate([gain[:, None] * mix, np.full((3, 1), self._bias)], 1)
        frame = cv2.transform(frame, matrix).astype(np.uint8, copy=False)
        if self._blur:
            frame = cv2.GaussianBlur(frame, (3, 3), 0).astype(np.uint8, copy=False)
        return frame
