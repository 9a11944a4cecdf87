"""Textures drawn by formula: a pond floor, a koi, a turtle and lily pads, all seen from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # [H, W], or [H, W, C] for colours in 0..1
_WARM = (1.0, 0.1, -1.0)  # from a bluish to a reddish stone


@dataclass(frozen=True)
class Sprite:
    """A picture with transparency in its own coordinates, whose unit is the subject's size.

    Attributes:
        pixels: float32 [h, w, 4], colour already multiplied by alpha, 0..1.
        scale: pixels to a unit; the origin is the middle of ``pixels``.
    """

    pixels: Field
    scale: float


def fractal_noise(
    shape: tuple[int, int], cell: float, rng: np.random.Generator, octaves: int = 4
) -> Field:
    """Smooth random field.

    Args:
        shape: rows and columns of the result.
        cell: size of its largest blobs in pixels.
        rng: where the randomness comes from.
        octaves: how often detail of half the size is added.

    Returns:
        float32 [rows, columns], from 0 to 1.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.random((int(shape[0] / step) + 3, int(shape[1] / step) + 3), np.float32)
        # Each layer is shifted by a random part of a cell, else their grid lines coincide.
        matrix = np.array([[step, 0, -step * rng.random()], [0, step, -step * rng.random()]])
        size = (shape[1], shape[0])
        layer = cv2.warpAffine(grid, matrix, size, flags=cv2.INTER_CUBIC)
        total += layer.astype(np.float32) * 0.55**octave
    low, high = np.percentile(total, (0.5, 99.5))
    return np.asarray(np.clip((total - low) / (high - low), 0, 1), np.float32)


def mix(first: Field, second: Sequence[float] | Field, share: Field) -> Field:
    """Colours [H, W, 3] between ``first`` (share 0) and ``second`` (share 1, [H, W])."""
    weight = share[..., None]
    return (first * (1 - weight) + np.asarray(second, np.float32) * weight).astype(np.float32)


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between."""
    x = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def cells(shape: tuple[int, int], seeds: NDArray[np.float64]) -> tuple[NDArray[np.int32], Field]:
    """Voronoi cells of ``seeds`` [N, 2] as (x, y) in pixels.

    Returns:
        int32 [H, W] number of the cell, from 1, and float32 [H, W] distance to its border.
    """
    marks = np.full(shape, 255, np.uint8)
    spots = seeds.astype(int)
    marks[spots[:, 1].clip(0, shape[0] - 1), spots[:, 0].clip(0, shape[1] - 1)] = 0
    labels = cv2.distanceTransformWithLabels(marks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[
        1
    ]
    inside = np.ones(shape, np.uint8)
    inside[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    inside[1:][labels[1:] != labels[:-1]] = 0
    border = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    return labels.astype(np.int32), border.astype(np.float32)


def pond_floor(shape: tuple[int, int], unit: float, rng: np.random.Generator) -> Field:
    """Pebbles on sand under water.

    Args:
        shape: rows and columns.
        unit: pixels to the height of the picture that will be cut out.
        rng: where the randomness comes from.

    Returns:
        float32 [rows, columns, 3] colours, 0..1.
    """
    rows, columns = shape
    patches = fractal_noise(shape, 0.5 * unit, rng, 3)
    count = int(rows * columns / (0.062 * unit) ** 2)
    seeds = rng.random((count * 2, 2)) * (columns, rows)
    crowd = patches[seeds[:, 1].astype(int), seeds[:, 0].astype(int)]
    labels, border = cells(shape, seeds[rng.random(len(seeds)) < 0.12 + 0.88 * crowd**2])
    bend = 0.03 * unit
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    x += bend * (fractal_noise(shape, 0.1 * unit, rng, 3) - 0.5)
    y += bend * (fractal_noise(shape, 0.1 * unit, rng, 3) - 0.5)
    labels = cv2.remap(labels.astype(np.float32), x, y, cv2.INTER_NEAREST, None, 1).astype(int)
    border = cv2.remap(border, x, y, cv2.INTER_LINEAR, None, 1).astype(np.float32)

    total = int(labels.max()) + 1
    stone = np.array([0.5, 0.47, 0.42]) * rng.uniform(0.6, 1.4, (total, 1))
    stone = stone * (1 + rng.normal(0, 0.03, (total, 3)) + rng.normal(0, 0.09, (total, 1)) * _WARM)
    grain = fractal_noise(shape, 0.03 * unit, rng, 4)
    pebbles = stone[labels].astype(np.float32) * (0.7 + 0.6 * grain[..., None])
    rounded = cv2.GaussianBlur(border, (0, 0), 0.006 * unit)
    height = np.sqrt(np.clip(rounded - 0.0035 * unit, 0, 0.02 * unit)).astype(np.float32)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) + cv2.Sobel(height, cv2.CV_32F, 0, 1)
    pebbles *= np.clip(1 + 0.22 * cv2.GaussianBlur(slope, (0, 0), 0.8), 0.55, 1.4)[..., None]
    dust = fractal_noise(shape, 0.012 * unit, rng, 2) * (0.6 + 0.4 * patches)
    sand = mix(np.full((*shape, 3), (0.31, 0.27, 0.2), np.float32), (0.62, 0.56, 0.43), dust)
    colour = mix(sand, pebbles, smoothstep(0.0, 0.5, height / np.sqrt(0.02 * unit)))
    algae = 0.55 * smoothstep(0.55, 0.95, fractal_noise(shape, 0.35 * unit, rng, 5))
    return np.clip(mix(colour, (0.2, 0.3, 0.12), algae), 0, 1).astype(np.float32)


def koi(scale: float, rng: np.random.Generator) -> Sprite:
    """Draw a white, orange and black koi, nose to tail 1, that looks along +x."""
    u, v = _grid(0.56, 0.3, scale)
    s = np.linspace(0, 1, 80)
    width = 0.33 * np.sqrt(s) * (1 - s) + 0.022 * s
    spine = 0.5 - 0.8 * s
    body = np.concatenate([np.stack([spine, width], 1), np.stack([spine, -width], 1)[::-1]])
    tail = [(-0.25, 0.016), (-0.38, 0.085), (-0.5, 0.13), (-0.46, 0.06), (-0.4, 0.0)]
    tail += [(x, -y) for x, y in reversed(tail[:-1])]
    fins = [_petal((0.2, 0.09 * side), side * 2.15, 0.2, 0.055) for side in (1, -1)]
    fins += [_petal((-0.08, 0.06 * side), side * 2.6, 0.12, 0.028) for side in (1, -1)]

    stain = fractal_noise(u.shape, 0.22 * scale, rng, 4)
    ink = fractal_noise(u.shape, 0.13 * scale, rng, 4)
    red = smoothstep(0.5, 0.55, stain)
    skin = mix(np.full((*u.shape, 3), (0.97, 0.94, 0.88), np.float32), (0.95, 0.33, 0.06), red)
    skin = mix(skin, (0.07, 0.07, 0.09), smoothstep(0.7, 0.74, ink) * (u < 0.36))
    lattice = np.cos(110 * (u + v)) * np.cos(110 * (u - v))
    skin *= 1 - 0.13 * smoothstep(0.1, 0.8, lattice.astype(np.float32))[..., None]
    half = np.interp(-u, -spine, width).astype(np.float32) + 1e-3
    dome = np.sqrt(np.clip(1 - (v / half) ** 2, 0, 1))
    sheen = np.exp(-(((v / half + 0.3) / 0.16) ** 2)) * 0.16 * smoothstep(-0.25, 0.1, u)
    skin = np.clip(skin * (0.5 + 0.5 * dome)[..., None] + sheen[..., None], 0, 1)
    for side in (1, -1):
        eye = np.hypot(u - 0.415, v - side * 0.068)
        skin = mix(skin.astype(np.float32), (0.03, 0.03, 0.03), 1 - smoothstep(0.008, 0.016, eye))

    rays = 0.5 + 0.5 * np.sin(90 * np.arctan2(v, u + 0.12)).astype(np.float32)
    fin = mix(np.full((*u.shape, 3), (0.93, 0.62, 0.4), np.float32), (0.99, 0.9, 0.8), 0.7 * rays)
    canvas = np.zeros((*u.shape, 4), np.float32)
    for outline in [np.array(tail), *fins]:
        _paste(canvas, fin, 0.92 * _coverage(outline, u.shape, scale))
    _paste(canvas, skin.astype(np.float32), _coverage(body, u.shape, scale))
    return Sprite(canvas, scale)


def turtle(scale: float, rng: np.random.Generator) -> Sprite:
    """Draw an olive turtle, nose to tail 1, that looks along +x."""
    u, v = _grid(0.56, 0.56, scale)
    angle = np.linspace(0, 2 * np.pi, 120)
    shell = np.stack([0.335 * np.cos(angle) - 0.02, 0.27 * np.sin(angle)], 1)
    shell[:, 1] *= 1 - 0.12 * np.cos(angle)
    radius = np.hypot((u + 0.02) / 0.335, v / 0.27)

    centres = [(x, 0.0) for x in (-0.25, -0.13, 0.0, 0.12, 0.23)]
    centres += [(x, side * 0.145) for x in (-0.19, -0.065, 0.065, 0.175) for side in (1, -1)]
    spread = np.stack([np.hypot(u - x, v - y) for x, y in centres])
    nearest = spread.argmin(0)
    ordered = np.sort(spread, 0)
    seam = smoothstep(0.004, 0.016, ordered[1] - ordered[0])
    rim = radius > 0.84
    turn = np.arctan2(v, u + 0.02)
    teeth = smoothstep(0.06, 0.2, np.abs(np.sin(12 * turn)).astype(np.float32))
    seam = np.where(rim, teeth, seam) * smoothstep(0.0, 0.03, np.abs(radius - 0.84))
    spots = np.asarray(centres)[nearest]
    around = np.arctan2(v - spots[..., 1], u - spots[..., 0])
    grain = fractal_noise(u.shape, 0.05 * scale, rng, 4)
    streak = smoothstep(0.2, 0.8, np.sin(13 * around + 7 * grain + nearest).astype(np.float32))
    plate = mix(np.full((*u.shape, 3), (0.25, 0.24, 0.1), np.float32), (0.78, 0.58, 0.2), streak)
    plate = mix(plate, (0.5, 0.44, 0.17), (0.75 * rim).astype(np.float32))
    dome = np.sqrt(np.clip(1 - 0.8 * radius**2, 0, 1)) * (1 - 0.25 * (u + v))
    plate *= ((0.25 + 0.75 * seam) * (0.45 + 0.7 * dome) * (0.7 + 0.6 * grain))[..., None]

    seeds = rng.random((2600, 2)) * (u.shape[1], u.shape[0])
    border = cells((u.shape[0], u.shape[1]), seeds)[1]
    net = smoothstep(0.0, 0.008 * scale, border)
    skin = mix(np.full((*u.shape, 3), (0.6, 0.57, 0.3), np.float32), (0.24, 0.3, 0.14), net)
    skin *= 0.7 + 0.6 * grain[..., None]

    canvas = np.zeros((*u.shape, 4), np.float32)
    limbs = [_petal((0.2, 0.17 * side), side * 1.75, 0.36, 0.08) for side in (1, -1)]
    limbs += [_petal((-0.24, 0.15 * side), side * 2.45, 0.26, 0.07) for side in (1, -1)]
    limbs += [_petal((-0.3, 0.0), np.pi, 0.15, 0.02), _petal((0.24, 0.0), 0.0, 0.29, 0.09)]
    for outline in limbs:
        _paste(canvas, skin, _coverage(outline, u.shape, scale))
    for side in (1, -1):
        eye = np.hypot(u - 0.46, v - side * 0.052)
        dark = np.zeros_like(skin)
        _paste(canvas, dark, (1 - smoothstep(0.012, 0.02, eye)) * canvas[..., 3])
    _paste(canvas, np.clip(plate, 0, 1), _coverage(shell, u.shape, scale))
    return Sprite(canvas, scale)


def lily_pad(scale: float, rng: np.random.Generator, *, flower: bool) -> Sprite:
    """Draw a round floating leaf of radius 1 with its notch along +x, with or without a flower."""
    u, v = _grid(1.1, 1.1, scale)
    angle = np.linspace(0.16, 2 * np.pi - 0.16, 160)
    radius = 1 + 0.02 * np.sin(7 * angle + 1) + 0.012 * np.sin(19 * angle)
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    outline = np.concatenate([outline, [(0.06, 0.0)]])
    r, turn = np.hypot(u, v), np.arctan2(v, u)
    blot = fractal_noise(u.shape, 0.5 * scale, rng, 5)
    leaf = mix(np.full((*u.shape, 3), (0.13, 0.36, 0.09), np.float32), (0.42, 0.6, 0.2), blot)
    leaf = mix(leaf, (0.46, 0.29, 0.13), 0.8 * smoothstep(0.86, 1.0, r + 0.1 * blot - 0.05))
    ridge = np.abs(np.sin(8.5 * turn + 0.25 * (blot - 0.5))).astype(np.float32) * r
    leaf = mix(leaf, (0.66, 0.78, 0.42), 0.5 * (1 - smoothstep(0.02, 0.17, ridge)))
    leaf *= (0.86 + 0.16 * np.cos(17 * turn) * smoothstep(0.1, 0.6, r) - 0.14 * (u + v))[..., None]
    canvas = np.zeros((*u.shape, 4), np.float32)
    _paste(canvas, np.clip(leaf, 0, 1), _coverage(outline, u.shape, scale))
    for ring in range(4) if flower else ():
        for petal in range(9):
            direction = 2 * np.pi * (petal / 9 + ring * 0.055)
            length = 0.52 - 0.1 * ring
            shape = _petal((-0.15, 0.2), direction, length, 0.3 * length, tip=True)
            along = np.hypot(u + 0.15, v - 0.2) / length
            hue = mix(
                np.full((*u.shape, 3), (1.0, 0.93, 0.95), np.float32),
                (0.93, 0.5 + 0.07 * ring, 0.68),
                smoothstep(0.2, 1.1, along),
            )
            edge = _coverage(shape, u.shape, scale)
            shade = cv2.GaussianBlur(edge, (0, 0), 0.03 * scale) * canvas[..., 3]
            _paste(canvas, np.zeros_like(hue), 0.3 * shade)
            _paste(canvas, hue * (0.8 + 0.2 * np.clip(along, 0, 1))[..., None], edge)
    if flower:
        heart = 1 - smoothstep(0.06, 0.11, np.hypot(u + 0.15, v - 0.2) + 0.05 * (blot - 0.5))
        _paste(canvas, np.full((*u.shape, 3), (0.98, 0.78, 0.2), np.float32), heart)
    return Sprite(canvas, scale)


def _grid(half_width: float, half_height: float, scale: float) -> tuple[Field, Field]:
    columns, rows = int(2 * half_width * scale), int(2 * half_height * scale)
    u = (np.arange(columns, dtype=np.float32) + 0.5 - columns / 2) / scale
    v = (np.arange(rows, dtype=np.float32) + 0.5 - rows / 2) / scale
    across, down = np.meshgrid(u, v)
    return across.astype(np.float32), down.astype(np.float32)


def _petal(
    base: tuple[float, float], angle: float, length: float, half_width: float, tip: bool = False
) -> NDArray[np.float64]:
    """Outline [N, 2] of a leaf shape that starts at ``base`` and points along ``angle``."""
    s = np.linspace(0, 1, 30)
    width = half_width * (np.sin(np.pi * s) if tip else 2 * np.sqrt(s * (1 - s)) * (0.6 + 0.5 * s))
    points = np.concatenate(
        [np.stack([s * length, width], 1), np.stack([s * length, -width], 1)[::-1]]
    )
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ turn + base)


def _coverage(outline: NDArray[np.float64], shape: tuple[int, ...], scale: float) -> Field:
    """Share of every pixel that lies inside ``outline``, from 16 samples a pixel."""
    fine = np.zeros((shape[0] * 4, shape[1] * 4), np.uint8)
    points = (outline * scale + (shape[1] / 2, shape[0] / 2)) * 4
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255)
    small = cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return (small / 255).astype(np.float32)


def _paste(canvas: Field, colour: Field, alpha: Field) -> None:
    """Lay ``colour`` [H, W, 3] over ``canvas`` [H, W, 4] in place, by ``alpha`` [H, W]."""
    weight = alpha[..., None]
    canvas *= 1 - weight
    canvas[..., :3] += colour * weight
    canvas[..., 3:] += weight
