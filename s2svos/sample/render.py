"""Clips of a pond, drawn by formula: koi, turtle and lily pads, with exact masks.

No file is read, so the demonstration works wherever the package does. In :data:`MEASURED` the koi
(1) swims beneath a lily pad and comes out again; the turtle (2) then crosses above it. In
:data:`SHOWN` the koi is hidden for a while by a leaf, the turtle's way crosses its own, and a
second koi (3) looks like the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.sample.sprites import Field, Sprite, fractal_noise, koi, lily_pad, pond_floor, turtle

RATE = 24  # frames a second
_KOI_SIZE, _TURTLE_SIZE = 0.5, 0.44  # lengths; all lengths and places are in heights of the frame
_SUN = np.array([0.045, 0.06])  # how far a shadow falls from what casts it, per unit of depth

Path = Callable[[float], tuple[float, float]]
"""Where a thing is, from the beginning (0) to the end (1) of a clip: x and y."""


@dataclass(frozen=True)
class Story:
    """Who swims where.

    Args:
        koi: path of the koi, object 1.
        turtle: of the turtle, object 2, which swims above it.
        twin: of a second koi with stains of its own, object 3; None for none.
        pads: x, y and radius of the lily pads, which float above all; the second has a flower.
    """

    koi: Path
    turtle: Path
    pads: tuple[tuple[float, float, float], ...]
    twin: Path | None = None


MEASURED = Story(
    koi=lambda t: (-0.68 + 1.34 * t, 0.2 - 0.12 * np.sin(4.4 * t + 0.3)),
    turtle=lambda t: (0.57 - 0.06 * t - 0.22 * t * t, -0.27 + 0.54 * t),
    pads=((0.02, 0.1, 0.25), (0.14, 0.46, 0.17), (-0.15, -0.29, 0.2)),
)
SHOWN = Story(
    koi=lambda t: (-0.66 + 1.3 * _darting(t), 0.26 - 0.02 * np.sin(4.4 * t)),
    turtle=lambda t: (0.66 - 0.36 * t, -0.26 + 0.42 * t),
    twin=lambda t: (-0.6 + 0.5 * t, -0.32 - 0.04 * np.sin(3 * t)),
    pads=((-0.8, 0.62, 0.15), (0.8, 0.6, 0.15), (-0.04, 0.14, 0.34)),
)


def _darting(t: float) -> float:
    """Return a time that passes more quickly in the middle, beneath the leaf."""
    return t - 0.12 * float(np.sin(2 * np.pi * t))


@dataclass(frozen=True)
class _Camera:
    """Where every pixel of a frame looks: float32 [H, W] each."""

    x: Field
    y: Field


@dataclass(frozen=True)
class _Pose:
    place: NDArray[np.float64]  # [2], centre
    angle: float
    size: float
    bend: float = 0.0  # koi: sideways beat of the tail
    phase: float = 0.0
    swing: float = 0.0  # turtle: flippers forwards and back


def render(
    length: int = 72,
    height: int = 360,
    width: int = 640,
    seed: int = 0,
    story: Story = MEASURED,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw the clip; equal arguments give equal frames.

    Args:
        length: number of frames; the same story is told in more or fewer.
        height: rows.
        width: columns.
        seed: of all patterns and of the sensor noise.
        story: that is told.

    Yields:
        frame: uint8 [height, width, 3], RGB.
        ids: uint8 [height, width], 1 koi, 2 turtle, 3 the second koi, 0 elsewhere, of visible
            pixels only.
    """
    rng = np.random.default_rng(seed)
    aspect = width / height
    floor = pond_floor((int(1.6 * height), int((aspect + 0.8) * height)), height, rng)
    ripples = [fractal_noise((height, width), 0.16 * height, rng, 2) for _ in range(2)]
    fish = _tint(koi(_KOI_SIZE * height * 1.15, rng), 0.12)
    reptile = _tint(turtle(_TURTLE_SIZE * height * 1.15, rng), 0.06)
    pads = [
        (lily_pad(radius * height * 1.1, rng, flower=index == 1), np.array(place), radius)
        for index, (*place, radius) in enumerate(story.pads)
    ]
    other_fish = _tint(koi(_KOI_SIZE * height * 1.15, rng), 0.12) if story.twin else fish

    for index in range(length):
        t = index / max(length - 1, 1)
        seconds = 3 * t
        camera = _camera(t, height, width)
        picture = _look(floor, camera, height)
        picture *= _caustics(ripples, seconds, camera, height)[..., None]

        swimmers = [(1, _layer(fish, _koi_pose(story.koi, t, seconds), camera), 1.0)]
        if story.twin:
            pose = _koi_pose(story.twin, t, seconds + 1)
            swimmers.append((3, _layer(other_fish, pose, camera), 1.2))
        swimmers.append((2, _layer(reptile, _turtle_pose(story.turtle, t, seconds), camera), 1.5))
        leaves = np.zeros_like(swimmers[0][1])
        for number, (pad, place, radius) in enumerate(pads):
            sway = 0.012 * np.sin(1.7 * seconds + 2 * number + np.array([0.0, 1.2]))
            turn = 1.9 * number + 0.7 + 0.05 * np.sin(1.3 * seconds + number)
            leaf = _layer(pad, _Pose(place + sway, turn, radius), camera)
            _shade(leaves, leaf, 0.3, height)
            _lay(leaves, leaf)

        # From the floor upwards: every thing darkens what lies below it before it is laid on.
        for _, layer, depth in swimmers:
            _shade(picture, layer, depth, height)
        _shade(picture, leaves, 2.0, height)
        ids = np.zeros((height, width), np.uint8)
        for number, (one, layer, _) in enumerate(swimmers):
            if number:
                _shade(picture, layer, 0.5, height)
            _lay(picture, layer)
            ids[layer[..., 3] > 0.5] = one
        _shade(picture, leaves, 0.35, height)
        _lay(picture, leaves)
        ids[leaves[..., 3] > 0.5] = 0
        yield _expose(picture, seed, index), ids


def _camera(t: float, height: int, width: int) -> _Camera:
    zoom = 1.0 + 0.09 * t
    centre = (-0.1 + 0.22 * t, 0.03 * np.sin(2 * np.pi * t))
    tilt = 0.03 * np.sin(np.pi * t)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    across = (column + 0.5 - width / 2) / (height * zoom)
    down = (row + 0.5 - height / 2) / (height * zoom)
    x = centre[0] + across * np.cos(tilt) - down * np.sin(tilt)
    y = centre[1] + across * np.sin(tilt) + down * np.cos(tilt)
    return _Camera(x.astype(np.float32), y.astype(np.float32))


def _koi_pose(path: Path, t: float, seconds: float) -> _Pose:
    beat = 2 * np.pi * 1.5 * seconds
    return _Pose(np.array(path(t)), _heading(path, t), _KOI_SIZE, 0.055, beat)


def _turtle_pose(path: Path, t: float, seconds: float) -> _Pose:
    angle = _heading(path, t) + 0.1 * float(np.sin(3 * seconds))
    size = _TURTLE_SIZE * (1 + 0.12 * t)
    swing = 0.45 * np.sin(2 * np.pi * 0.8 * seconds)
    return _Pose(np.array(path(t)), angle, size, swing=swing)


def _heading(path: Path, t: float) -> float:
    """Return the angle at which a thing swims, from the x axis."""
    ahead = np.array(path(t + 1e-3)) - path(t)
    return float(np.arctan2(ahead[1], ahead[0]))


def _layer(sprite: Sprite, pose: _Pose, camera: _Camera) -> Field:
    """``sprite`` as the camera sees it: float32 [H, W, 4], colour multiplied by alpha."""
    x, y = camera.x - pose.place[0], camera.y - pose.place[1]
    cos, sin = np.cos(pose.angle) / pose.size, np.sin(pose.angle) / pose.size
    u, v = x * cos + y * sin, y * cos - x * sin
    v = v + pose.bend * np.clip(0.45 - u, 0, 1) ** 1.5 * np.sin(pose.phase + 5 * u)
    u = u - pose.swing * np.sign(u) * np.clip(np.abs(v) - 0.25, 0, 1)
    rows, columns = sprite.pixels.shape[:2]
    across = (u * sprite.scale + columns / 2 - 0.5).astype(np.float32)
    down = (v * sprite.scale + rows / 2 - 0.5).astype(np.float32)
    return np.asarray(cv2.remap(sprite.pixels, across, down, cv2.INTER_LINEAR), np.float32)


def _look(floor: Field, camera: _Camera, height: int) -> Field:
    """Draw the floor as the camera sees it, tinted by the water: float32 [H, W, 3]."""
    across = camera.x * height + floor.shape[1] / 2
    down = camera.y * height + floor.shape[0] / 2
    seen = cv2.remap(floor, across, down, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    water, haze = np.array([[0.8, 0.93, 0.84], [0.0, 0.03, 0.035]], np.float32)
    return np.asarray(seen * water + haze, np.float32)


def _caustics(ripples: list[Field], seconds: float, camera: _Camera, height: int) -> Field:
    """Brightness of the net of light that waves throw on the floor: float32 [H, W]."""
    nets = []
    for ripple, (along, across) in zip(ripples, ((0.13, 0.05), (-0.09, 0.11)), strict=True):
        x = (camera.x + along * seconds) * height
        y = (camera.y + across * seconds) * height
        wave = cv2.remap(ripple, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
        nets.append(1 - np.abs(2 * wave - 1))
    bright = np.minimum(nets[0], nets[1]) ** 5
    return np.asarray(0.86 + 0.75 * bright, np.float32)


def _shade(picture: Field, layer: Field, depth: float, height: int) -> None:
    """Darken ``picture`` in place where ``layer`` stands in the light, ``depth`` above it."""
    x, y = _SUN * depth * height
    moved = cv2.warpAffine(
        layer[..., 3], np.array([[1, 0, x], [0, 1, y]]), (layer.shape[1], layer.shape[0])
    )
    soft = cv2.GaussianBlur(moved, (0, 0), 0.012 * height * (0.4 + depth))
    picture[..., :3] *= 1 - 0.42 * soft[..., None]


def _tint(sprite: Sprite, share: float) -> Sprite:
    """``sprite`` with a ``share`` of the water's colour before it."""
    colour, alpha = sprite.pixels[..., :3], sprite.pixels[..., 3:]
    colour = colour * (1 - share) + alpha * share * np.array([0.2, 0.34, 0.32], np.float32)
    return Sprite(np.concatenate([colour, alpha], axis=2).astype(np.float32), sprite.scale)


def _lay(picture: Field, layer: Field) -> None:
    """Put ``layer`` on ``picture`` (with or without alpha) in place."""
    picture *= 1 - layer[..., 3:]
    picture += layer[..., : picture.shape[2]]


def _expose(picture: Field, seed: int, index: int) -> NDArray[np.uint8]:
    """Light to uint8 RGB as a camera would: a darker rim and a little noise."""
    rows, columns = picture.shape[:2]
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    rim = 1.05 - 0.13 * (x * x + y * y)
    noise = np.random.default_rng((seed, index)).normal(0, 2.2, picture.shape)
    exposed: Field = picture * rim[..., None] * 255 + noise
    return np.clip(exposed, 0, 255).astype(np.uint8)
