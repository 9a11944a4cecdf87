"""Measures against cases counted by hand and against a slow restatement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from s2svos.evaluation.metrics import contour, contour_accuracy, region_similarity

Mask = NDArray[np.bool_]


def square(top: int, left: int, side: int, size: int = 40) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(seed: int) -> Mask:
    import cv2

    noise = np.random.default_rng(seed).random((48, 64)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 4) > 0.5)


def brute_force_f(predicted: Mask, truth: Mask, bound: float) -> float:
    """F by distances between contour pixels, pixel by pixel."""
    rows, columns = truth.shape
    reach = bound if bound >= 1 else math.ceil(bound * math.sqrt(rows**2 + columns**2))

    def points(mask: Mask) -> list[tuple[int, int]]:
        found = []
        for y in range(rows):
            for x in range(columns):
                block = {
                    bool(mask[min(y + down, rows - 1), min(x + right, columns - 1)])
                    for down in (0, 1)
                    for right in (0, 1)
                }
                if len(block) == 2:
                    found.append((y, x))
        return found

    def matched(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [min(math.dist(point, other) for other in others) <= reach for point in some]
        return sum(near) / len(near)

    ours, theirs = points(predicted), points(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)
    precision, recall = matched(ours, theirs), matched(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_identical() -> None:
    mask = square(10, 10, 12)
    assert region_similarity(mask, mask) == 1
    assert contour_accuracy(mask, mask) == 1


def test_disjoint() -> None:
    assert region_similarity(square(0, 0, 8), square(30, 30, 8)) == 0
    assert contour_accuracy(square(0, 0, 8), square(30, 30, 8)) == 0


def test_empty() -> None:
    nothing, something = np.zeros((40, 40), bool), square(10, 10, 12)
    assert region_similarity(nothing, nothing) == contour_accuracy(nothing, nothing) == 1
    for one, other in [(nothing, something), (something, nothing)]:
        assert region_similarity(one, other) == 0
        assert contour_accuracy(one, other) == 0


def test_one_pixel_shift() -> None:
    one, other = square(10, 10, 10), square(10, 11, 10)
    assert region_similarity(one, other) == pytest.approx(90 / 110)
    assert contour_accuracy(one, other, bound=1) == 1  # 0.8 % of the diagonal of 57 is 1 as well
    assert contour_accuracy(one, other) == 1


def test_three_pixel_shift_misses_two_sides() -> None:
    one, other = square(10, 10, 10), square(10, 13, 10)
    assert np.count_nonzero(contour(one)) == 40
    # Of its 11 pixels, the upper line has 9 within a pixel of the other contour, and so has the
    # lower; of the side inside the other square, the two ends; of the side outside, none.
    assert contour_accuracy(one, other, bound=1) == (9 + 9 + 2) / 40
    assert contour_accuracy(one, other, bound=3) == 1


def test_contour_of_a_pixel_and_of_the_rim() -> None:
    dot = np.zeros((5, 5), bool)
    dot[2, 2] = True
    assert np.argwhere(contour(dot)).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not contour(np.ones((5, 5), bool)).any()


@pytest.mark.parametrize("bound", [0.008, 0.03, 1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_contour_accuracy_is_the_brute_force_one(seed: int, bound: float) -> None:
    predicted, truth = blobs(seed), blobs(seed + 100)
    expected = brute_force_f(predicted, truth, bound)
    assert contour_accuracy(predicted, truth, bound) == pytest.approx(expected, abs=1e-12)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        region_similarity(np.zeros((4, 4), bool), np.zeros((4, 5), bool))
