"""Masks as polygons and as run lengths."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.extras import needs
from s2svos_engines.arrays import Labels

Points = NDArray[np.int32]
_LEAST = 3  # corners of a polygon


def objects_of(ids: Labels) -> list[int]:
    """Return the ids on a frame, rising."""
    return [int(one) for one in np.flatnonzero(np.bincount(ids.ravel(), minlength=2)) if one]


def box(ids: Labels, one: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height of an object in pixels."""
    left, top, width, height = cv2.boundingRect(np.asarray(ids == one, np.uint8))
    return left, top, width, height


def polygon(ids: Labels, one: int) -> Points | None:
    """Return an object's outline as one closed polygon, int32 [P, 2] of x and y.

    Parts and holes hang together by lines there and back, which have no area: who fills it by even
    and odd crossings has the mask back. None for an object that is no wider than a line.
    """
    found, _ = cv2.findContours(
        np.asarray(ids == one, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    outlines = [np.asarray(o, np.int32)[:, 0] for o in found if len(o) >= _LEAST]
    if not outlines:
        return None
    outlines.sort(key=len, reverse=True)
    whole = outlines[0]
    for other in outlines[1:]:
        whole = _joined(whole, other)
    return whole


def _joined(whole: Points, other: Points) -> Points:
    """Insert a closed outline into another, at the two points that are nearest to each other."""
    distances = ((whole[:, None] - other[None]) ** 2).sum(-1)
    at, to = np.unravel_index(int(distances.argmin()), distances.shape)
    loop = np.concatenate([other[to:], other[: to + 1]])
    return np.concatenate([whole[: at + 1], loop, whole[at:]])


def run_lengths(ids: Labels, one: int) -> dict[str, Any]:
    """Return an object's mask as COCO's compressed run lengths: ``size`` and ``counts``.

    Raises:
        UserError: the extra ``coco`` is missing.
    """
    with needs("coco"):
        from pycocotools import mask as coco
    encoded = coco.encode(np.asfortranarray(ids == one, np.uint8))
    counts = encoded["counts"]
    text = counts.decode() if isinstance(counts, bytes) else counts
    return {"size": [int(n) for n in encoded["size"]], "counts": text}
