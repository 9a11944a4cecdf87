"""Textures and outlines drawn by formula."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.warp import Picture
from s2svos_engines.arrays import Frame

Field = NDArray[np.float32]
"""A pattern, float32 [H, W], 0 to 1."""

Outline = NDArray[np.float64]
"""A closed polygon, float64 [N, 2], x and y within -1 to 1."""


def texture(rng: np.random.Generator, height: int, width: int) -> Frame:
    """Draw a random pattern in random colours, uint8 [height, width, 3]."""
    unit = np.exp(rng.uniform(np.log(6), np.log(90)))  # pixels, of the largest pattern
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng, height, width, unit)
    if rng.random() < 0.4:
        pattern += np.float32(rng.uniform(0.1, 0.5)) * _noise(rng, height, width, unit / 8)
    index = cv2.convertScaleAbs(pattern, alpha=255 / float(pattern.max() + 1e-6))
    coloured = cv2.LUT(cv2.cvtColor(index, cv2.COLOR_GRAY2RGB), _ramp(rng)[None])
    return coloured.astype(np.uint8, copy=False)


def outline(rng: np.random.Generator) -> Outline:
    """Draw a random closed shape: a blob, a star or polygon, or a rounded bar."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    kind = rng.random()
    if kind < 0.5:
        waves = np.arange(2, 7)
        strength = rng.normal(0, 0.3, 5) / (waves - 1)
        radius = 1 + (strength[:, None] * np.cos(np.outer(waves, turn) + _phase(rng, 5))).sum(0)
        radius = np.maximum(radius, 0.25)
    elif kind < 0.8:
        corners = int(rng.integers(3, 9))
        turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
        radius = np.where(np.arange(corners) % 2, rng.uniform(0.4, 1.1), 1)
        radius = radius * rng.uniform(0.8, 1.2, corners)
    else:
        power = rng.uniform(2, 6)  # from an ellipse to a rounded rectangle
        radius = (np.abs(np.cos(turn)) ** power + np.abs(np.sin(turn)) ** power) ** (-1 / power)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
    return np.asarray(points / np.abs(points).max(0))


def cut_out(picture: Picture, shape: Outline) -> Picture:
    """Cut a picture out along an outline that fills it: uint8 [H, W, 4], RGB and alpha."""
    height, width = picture.shape[:2]
    half = np.array([width, height]) / 2
    points = half + shape * np.maximum(half - 2, 0.5) - 0.5  # a clear margin of two pixels
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return np.dstack([picture, alpha])


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the colours of 256 values: a few of like hue, smooth or in steps."""
    count = int(rng.integers(2, 6))
    # Mostly light and dark of like hue, as things are: colours differ less than brightness does.
    light = rng.uniform(40, 215) + rng.normal(0, rng.uniform(10, 80), (count, 1))
    hue = rng.normal(0, 35, 3) + rng.normal(0, rng.uniform(5, 50), (count, 3))
    colours = np.clip(light + hue, 0, 255)
    places = np.linspace(0, 1, 256)
    if rng.random() < 0.3:
        steps = np.minimum((places * count).astype(int), count - 1)
        return np.asarray(colours[steps], np.uint8)
    stops = np.linspace(0, 1, count)
    channels = [np.interp(places, stops, colours[:, c]) for c in range(3)]
    return np.stack(channels, 1).astype(np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, unit: float) -> Field:
    """Draw smooth noise in four octaves, from ``unit`` pixels down."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        step = max(unit / 2**octave, 1.0)
        grid = rng.random((int(height / step) + 3, int(width / step) + 3), np.float32)
        # Each octave is shifted by a part of a cell, else their grid lines coincide.
        x, y = -step * rng.random(2)
        matrix = np.array([[step, 0, x], [0, step, y]])
        layer = cv2.warpAffine(grid, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        total += layer.astype(np.float32, copy=False) * np.float32(0.6**octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def _waves(rng: np.random.Generator, height: int, width: int, unit: float) -> Field:
    """Draw stripes, straight or bent; two directions at once give checks."""
    bend = _noise(rng, height, width, 2 * unit) * np.float32(rng.uniform(0, 8))
    total = np.zeros((height, width), np.float32)
    count = int(rng.integers(1, 3))
    for angle in rng.uniform(0, np.pi, count):
        y = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle) * 6 / unit)
        x = np.arange(width, dtype=np.float32)[None] * np.float32(np.cos(angle) * 6 / unit)
        total += np.sin(x + y + bend)
    hard = rng.random() < 0.3
    return np.asarray(total > 0 if hard else 0.5 + 0.5 * total / count, np.float32)


def _cells(rng: np.random.Generator, height: int, width: int, unit: float) -> Field:
    """Draw spots around, or flat cells about, random points."""
    marks = np.full((height, width), 255, np.uint8)
    count = max(2, int(height * width / unit**2))
    marks[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    away, labels = cv2.distanceTransformWithLabels(
        marks, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    if rng.random() < 0.5:
        return np.asarray(rng.random(int(labels.max()) + 1, np.float32)[labels], np.float32)
    reach = max(float(away.max()) * rng.uniform(0.4, 1), 1.0)
    return np.asarray(np.minimum(away / reach, 1), np.float32)


def _phase(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.uniform(0, 2 * np.pi, (count, 1))


_PATTERNS = (_noise, _waves, _cells)
