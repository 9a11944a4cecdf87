"""Training clips: short videos of some objects, and the protocol of what draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """A short video of K objects; the first is the one that it was drawn for.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        masks: uint8 [T, K, H, W], 255 for the object, values between on its border.
        source: data set and video or stills that it was made from, for messages.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    source: str

    def seen(self, least: float) -> list[int]:
        """Return the objects that cover at least that share of the first frame."""
        return [i for i, mask in enumerate(self.masks[0]) if mask.mean() > 255 * least]

    def only(self, objects: Sequence[int]) -> Clip:
        """Return the clip with some of its objects."""
        return replace(self, masks=self.masks[:, list(objects)])

    def with_objects_of(self, other: Clip, *, in_front: bool) -> Clip:
        """Return the clip with the objects of another one pasted into it.

        Args:
            other: of the same length and size.
            in_front: of this clip's objects, or behind them.
        """
        front, back = (other, self) if in_front else (self, other)
        uncovered = 255 - front.masks.max(1, keepdims=True)
        hidden = _times(back.masks, uncovered)
        pasted = other.masks if in_front else hidden
        alpha = pasted.max(1)[..., None]
        frames = _times(self.frames, 255 - alpha) + _times(other.frames, alpha)
        own = hidden if in_front else self.masks
        masks = np.concatenate([own, pasted], 1)
        return Clip(frames, masks, f"{self.source} with {other.source}")


def _times(values: NDArray[np.uint8], shares: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return values times shares of 255, rounded down: parts of a whole do not exceed it."""
    return (values.astype(np.uint16) * shares // 255).astype(np.uint8)


class ClipSource(Protocol):
    """A source of clips of a given size."""

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of ``length`` frames.

        Raises:
            BadFileError: a file that was drawn cannot be used; another draw may find better ones.
        """
        ...
