"""Training clips: short videos of one object, and the protocol of what draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """A short video of one object.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        masks: uint8 [T, H, W], 255 for the object, values between on its border.
        source: data set and video or stills that it was made from, for messages.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    source: str


class ClipSource(Protocol):
    """A source of clips of a given size."""

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of ``length`` frames.

        Raises:
            BadFileError: a file that was drawn cannot be used; another draw may find better ones.
        """
        ...
