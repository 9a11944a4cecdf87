"""DAVIS's two measures of a mask: region similarity J and contour accuracy F.

The numbers are those of the official evaluation code (davis2017-evaluation, ``db_eval_iou`` and
``db_eval_boundary``), without its dependency on scikit-image.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

BoolMask = NDArray[np.bool_]
"""An object's pixels, bool [H, W]."""


def region_similarity(predicted: BoolMask, truth: BoolMask) -> float:
    """Return J, the intersection over union.

    Args:
        predicted: bool [H, W].
        truth: bool [H, W].

    Returns:
        0 to 1; 1 when both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    _check(predicted, truth)
    union = np.count_nonzero(predicted | truth)
    return float(np.count_nonzero(predicted & truth) / union) if union else 1.0


def contour_accuracy(predicted: BoolMask, truth: BoolMask, bound: float = 0.008) -> float:
    """Return F, the harmonic mean of precision and recall of contour pixels.

    Args:
        predicted: bool [H, W].
        truth: bool [H, W].
        bound: largest distance of matching contour pixels: pixels if 1 or more, else a share of
            the diagonal, rounded up to whole pixels.

    Returns:
        0 to 1; 1 when neither has a contour, 0 when only one has.

    Raises:
        ValueError: the shapes differ.
    """
    _check(predicted, truth)
    reach = bound if bound >= 1 else math.ceil(bound * math.hypot(*truth.shape))
    predicted_contour, true_contour = contour(predicted), contour(truth)
    if not predicted_contour.any() or not true_contour.any():
        return float(predicted_contour.any() == true_contour.any())
    disk = _disk(reach)
    precision = cv2.dilate(true_contour.astype(np.uint8), disk)[predicted_contour].mean()
    recall = cv2.dilate(predicted_contour.astype(np.uint8), disk)[true_contour].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def contour(mask: BoolMask) -> BoolMask:
    """Return the pixels that differ from the one to the right, below, or below to the right.

    The picture's border is no contour. One pixel wide, half a pixel towards the origin from the
    true border, as the official ``seg2bmap`` draws it.

    Args:
        mask: bool [H, W].

    Returns:
        bool [H, W].
    """
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, between = wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]
    edges: BoolMask = (mask != right) | (mask != below) | (mask != between)
    return edges


def _disk(radius: float) -> NDArray[np.uint8]:
    """Return the pixels within ``radius`` of the middle; cv2's ellipse is another shape."""
    steps = np.arange(-math.floor(radius), math.floor(radius) + 1)
    inside: BoolMask = steps[:, None] ** 2 + steps**2 <= radius**2
    return inside.astype(np.uint8)


def _check(predicted: BoolMask, truth: BoolMask) -> None:
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of {predicted.shape} and {truth.shape} cannot be compared")
