"""Objects painted over the frames."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.video.masks import davis_palette
from s2svos_engines.arrays import Frame, Labels

OPACITY = 0.5
_CONTOUR = np.ones((5, 5), np.uint8)  # reaches two pixels from an edge
_AROUND = np.ones((3, 3), np.uint8)  # and one
_DARKEST = 32  # a palette's colour below that cannot be seen on a picture


@lru_cache(maxsize=8)
def overlay_colours(palette: bytes) -> NDArray[np.uint8]:
    """Colours to paint ids with: the palette's at full brightness, DAVIS's where it is black.

    In DAVIS's palette id 255, the object of a black and white mask, is a pale grey that is hard to
    see on a picture; it is painted as id 1.

    Args:
        palette: 768 bytes.

    Returns:
        uint8 [256, 1, 3], read-only.
    """
    davis = np.frombuffer(davis_palette(), np.uint8).reshape(256, 1, 3)
    given = np.frombuffer(palette, np.uint8).reshape(256, 1, 3)
    visible = np.where(given.max(axis=2, keepdims=True) < _DARKEST, davis, given).astype(float)
    visible[0] = 1.0  # never painted
    if (visible[255] == davis[255]).all():
        visible[255] = visible[1]
    colours: NDArray[np.uint8] = (
        (visible * (255 / visible.max(axis=2, keepdims=True))).round().astype(np.uint8)
    )
    colours.flags.writeable = False
    return colours


def paint(frame: Frame, ids: Labels, palette: bytes) -> Frame:
    """Lays translucent objects with contours over a frame.

    A contour is two pixels of the object's full colour within it, and a white one around it: a red
    object on something red can be seen too.

    Args:
        frame: uint8 [H, W, 3], RGB; not changed.
        ids: uint8 [H, W].
        palette: 768 bytes.

    Returns:
        uint8 [H, W, 3].
    """
    painted = frame.copy()
    x, y, width, height = cv2.boundingRect(ids)
    if not width:
        return painted
    # With what lies around the objects, but for the picture's border, which is no contour.
    box = np.s_[max(0, y - 2) : y + height + 2, max(0, x - 2) : x + width + 2]
    inside = np.ascontiguousarray(ids[box])
    colours = cv2.applyColorMap(inside, overlay_colours(palette))
    blended = cv2.addWeighted(frame[box], 1 - OPACITY, colours, OPACITY, 0)
    lowest, highest = cv2.erode(inside, _CONTOUR), cv2.dilate(inside, _CONTOUR)
    contour = cv2.bitwise_and(cv2.compare(lowest, highest, cv2.CMP_NE), inside)
    cv2.copyTo(colours, contour, blended)
    shown = cv2.copyTo(blended, inside, np.ascontiguousarray(painted[box]))
    background = cv2.threshold(inside, 0, 255, cv2.THRESH_BINARY_INV)[1]
    around = cv2.bitwise_and(cv2.dilate(inside, _AROUND), background)
    cv2.copyTo(np.full_like(shown, 255), around, shown)
    painted[box] = shown
    return painted
