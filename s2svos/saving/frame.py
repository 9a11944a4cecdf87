"""What is saved: frames with their masks, and what is to be known of their video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, Labels, Masks

_FAINT, _SURE = 25, 230  # of 255: probabilities that count as none and as all of an object


@dataclass(frozen=True)
class SavedVideo:
    """The video that masks are of.

    Args:
        path: of it; its sound is copied from there.
        width, height: in pixels.
        rate: frames a second.
        time_base: seconds, of which times are multiples.
        pixel_aspect: width of a pixel in its heights.
        objects: ids, rising, of all that may occur.
        names: what objects are called, by id; others are called ``object N``.
        palette: 768 bytes.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pixel_aspect: Fraction
    objects: tuple[int, ...]
    names: Mapping[int, str]
    palette: bytes

    def name(self, one: int) -> str:
        """Return what an object is called."""
        return self.names.get(one, f"object {one}")


@dataclass(frozen=True)
class SavedFrame:
    """A frame with its mask.

    Args:
        name: of the frame, as its mask's file has it.
        frame: uint8 [H, W, 3] RGB.
        ids: uint8 [H, W].
        time: seconds from the video's beginning at which it is shown.
        soft: uint8 [N, H, W], probabilities times 255 of the objects; None for what ``ids`` says.
        objects: the N ids.
        confidence: certainty by id, where it was measured.
    """

    name: str
    frame: Frame
    ids: Labels
    time: Fraction
    soft: Masks | None = None
    objects: tuple[int, ...] = ()
    confidence: Mapping[int, float] = field(default_factory=dict)

    def alpha(self, one: int | None = None) -> NDArray[np.uint8]:
        """Return how much of each pixel is an object's, or any object's, uint8 [H, W].

        From probabilities edges are as soft as the network is unsure of them.
        """
        if self.soft is None:
            found = self.ids > 0 if one is None else self.ids == one
            return found.astype(np.uint8) * np.uint8(255)
        if one is None:
            soft = np.minimum(self.soft.sum(0, dtype=np.uint16), 255)
        elif one in self.objects:
            soft = self.soft[self.objects.index(one)].astype(np.uint16)
        else:
            return np.zeros(self.ids.shape, np.uint8)
        scaled = (soft.astype(np.float32) - _FAINT) * (255 / (_SURE - _FAINT))
        return np.asarray(np.clip(scaled, 0, 255) + 0.5, np.uint8)


def settle(part: Path, path: Path, *, keep: bool) -> None:
    """Give a finished file its name, or remove it.

    Raises:
        OSError: it cannot be renamed.
    """
    if keep:
        part.replace(path)
    else:
        part.unlink(missing_ok=True)


class Saver(Protocol):
    """Takes frames in order and makes one file or several of them."""

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame.

        Raises:
            OSError: a file cannot be written.
        """

    def close(self, *, keep: bool) -> None:
        """Finish the files with the frames so far, or remove what was begun.

        Raises:
            OSError: they cannot be finished; then they are removed.
        """
