"""How sure the network is of each object on a frame, by the probabilities that it gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2

from s2svos_engines.arrays import Masks

DOUBTFUL = 0.75
"""Certainty below which a mask is worth a look."""


class Confidence(NamedTuple):
    """How sure the network is of an object.

    Args:
        certainty: mean probability of the object's pixels, 0.5 to 1; 0 where it has none.
        area: share of the network's view that they take.
        growth: area by that of the frame before; 1 where the object had none there.
    """

    certainty: float
    area: float
    growth: float = 1.0

    @property
    def lost(self) -> bool:
        """Whether nothing of the object is found."""
        return self.area == 0

    @property
    def doubtful(self) -> bool:
        """Whether it is lost, or hardly more likely there than not."""
        return self.certainty < DOUBTFUL


def confidence(
    masks: Masks, ids: Iterable[int], before: dict[int, Confidence]
) -> dict[int, Confidence]:
    """Measure the objects of a frame.

    Args:
        masks: uint8 [N, h, w], probabilities times 255.
        ids: of the N objects.
        before: of the frame before.

    Returns:
        by id, rising as ``ids`` are.
    """
    found = {}
    for one, mask in zip(ids, masks, strict=True):
        own = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1]
        pixels = cv2.countNonZero(own)
        certainty = cv2.mean(mask, own)[0] / 255 if pixels else 0.0
        area = pixels / mask.size
        last = before[one].area if one in before else 0.0
        found[int(one)] = Confidence(certainty, area, area / last if last else 1.0)
    return found
