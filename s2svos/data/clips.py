"""Training clips: excerpts of real sequences, and stills set in motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import Colour, Walk, wobble
from s2svos.data.sources import Sequence, Still

OVERSAMPLING = 2  # clips are drawn at twice their size, then averaged down: no aliasing
LEAST_SHARE = 0.002  # of the first frame that the object must cover
TRIES = 10


@dataclass(frozen=True)
class Clip:
    """A short video of one object.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        masks: uint8 [T, H, W], 255 for the object, values between on its border.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


class ClipSource(Protocol):
    """Draws clips of a given size."""

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames."""
        ...


def _visible(source: ClipSource, rng: np.random.Generator, draw: tuple[int, int, int]) -> Clip:
    """Draws until the object can be seen in the first frame; gives the last try if never."""
    for _ in range(TRIES):
        clip = source.sample(rng, *draw)
        if clip.masks[0].mean() > 255 * LEAST_SHARE:
            break
    return clip


def _border(picture: NDArray[np.uint8]) -> int:
    """What lies outside: a frame goes on mirrored; masks and cut-outs, which have alpha, end."""
    frame = picture.ndim == 3 and picture.shape[2] == 3
    return cv2.BORDER_REFLECT_101 if frame else cv2.BORDER_CONSTANT


def _warp(
    picture: NDArray[np.uint8], matrix: NDArray[np.float32], height: int, width: int
) -> NDArray[np.uint8]:
    warped = cv2.warpAffine(picture, matrix, (width, height), borderMode=_border(picture))
    return warped.astype(np.uint8, copy=False)


def _bent(picture: NDArray[np.uint8], places: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with pixel ``places[y, x]`` at (x, y)."""
    x, y = cv2.split(places)
    bent = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=_border(picture))
    return bent.astype(np.uint8, copy=False)


def _shrink(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(
        np.uint8, copy=False
    )


class RealClips:
    """Excerpts of sequences at random speed, direction, scale, place and colour."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self.sequences = sequences

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames."""
        sequence = self.sequences[rng.integers(len(self.sequences))]
        speed = min(int(rng.integers(1, 7)), (len(sequence.frames) - 1) // (length - 1))
        start = int(rng.integers(len(sequence.frames) - speed * (length - 1)))
        chosen = [start + speed * t for t in range(length)]
        if rng.random() < 0.5:
            chosen.reverse()

        big_h, big_w = OVERSAMPLING * height, OVERSAMPLING * width
        first = sequence.masks[chosen[0]]
        rows, columns = first.shape
        ys, xs = np.nonzero(first)
        middle = np.array([columns / 2, rows / 2])
        if len(xs):
            middle += rng.uniform(0, 1) * (np.array([xs.mean(), ys.mean()]) - middle)
        fit = max(big_w / columns, big_h / rows)
        walk = Walk.sample(
            rng,
            length,
            centre=(big_w * rng.uniform(0.4, 0.6), big_h * rng.uniform(0.4, 0.6)),
            scale=fit * np.exp(rng.uniform(-0.1, 0.6)),
            angle=rng.normal(0, 6),
            speed=0.01 * big_w * (rng.random() < 0.5),
        )
        mirror = bool(rng.random() < 0.5)
        colour = Colour(rng)
        frames, masks = [], []
        for t, index in enumerate(chosen):
            matrix = walk.matrix(t, (middle[0], middle[1]), mirror=mirror)
            frame = _warp(sequence.frames[index], matrix, big_h, big_w)
            mask = _warp(sequence.masks[index] * np.uint8(255), matrix, big_h, big_w)
            frames.append(colour(_shrink(frame, height, width)))
            masks.append(_shrink(mask, height, width))
        return Clip(np.stack(frames), np.stack(masks))


class MovingStills:
    """Stills made clips: a whole picture under a moving camera, or cut-outs moving over another."""

    def __init__(self, pictures: list[Still]) -> None:
        self.pictures = pictures

    def _picture(self, rng: np.random.Generator) -> Still:
        return self.pictures[rng.integers(len(self.pictures))]

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames."""
        draw = self._camera if rng.random() < 0.35 else self._cutouts
        return draw(rng, length, height, width)

    def _background(
        self, rng: np.random.Generator, length: int, height: int, width: int, still: Still
    ) -> tuple[Walk, tuple[float, float]]:
        rows, columns = still.mask.shape
        walk = Walk.sample(
            rng,
            length,
            centre=(width / 2, height / 2),
            scale=max(width / columns, height / rows) * rng.uniform(1.0, 1.5),
            angle=rng.normal(0, 8),
            speed=0.02 * width,
        )
        return walk, (columns * rng.uniform(0.35, 0.65), rows * rng.uniform(0.35, 0.65))

    def _camera(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        still = self._picture(rng)
        chosen = still.objects[rng.integers(len(still.objects))]
        alpha = (still.mask == chosen).astype(np.uint8) * np.uint8(255)
        big_h, big_w = OVERSAMPLING * height, OVERSAMPLING * width
        walk, pivot = self._background(rng, length, big_h, big_w, still)
        colour, bend = Colour(rng), wobble(rng, length, big_h, big_w, rng.uniform(0, 0.03))
        frames, masks = [], []
        for t in range(length):
            places = _places(walk.matrix(t, pivot), bend[t])
            frame = _bent(still.frame, places)
            mask = _bent(alpha, places)
            frames.append(colour(_shrink(frame, height, width)))
            masks.append(_shrink(mask, height, width))
        return Clip(np.stack(frames), np.stack(masks))

    def _cutouts(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        big_h, big_w = OVERSAMPLING * height, OVERSAMPLING * width
        ground = self._picture(rng)
        camera, pivot = self._background(rng, length, big_h, big_w, ground)
        target = _cut_out(rng, self._picture(rng))
        others = [_cut_out(rng, self._picture(rng)) for _ in range(rng.integers(0, 4))]
        if rng.random() < 0.15:
            others.append(np.ascontiguousarray(target[:, ::-1]))
        cutouts = [target, *others]
        order = rng.permutation(len(cutouts))
        walks = []
        for cutout in cutouts:
            size = big_h * np.exp(rng.uniform(np.log(0.12), np.log(0.9)))
            walk = Walk.sample(
                rng,
                length,
                centre=(big_w * rng.uniform(0.1, 0.9), big_h * rng.uniform(0.15, 0.85)),
                scale=size / max(cutout.shape[:2]),
                angle=rng.normal(0, 12),
                speed=0.035 * big_w * rng.uniform(0.1, 1.5),
            )
            walks.append(walk)
        bend = wobble(rng, length, big_h, big_w, rng.uniform(0, 0.04))
        colour = Colour(rng)

        frames, masks = [], []
        for t in range(length):
            frame = _warp(ground.frame, camera.matrix(t, pivot), big_h, big_w)
            mask = np.zeros((big_h, big_w), np.uint8)
            for index in order:
                cutout = cutouts[index]
                matrix = walks[index].matrix(t, (cutout.shape[1] / 2, cutout.shape[0] / 2))
                if index == 0:
                    layer = _bent(cutout, _places(matrix, bend[t]))
                else:
                    layer = _warp(cutout, matrix, big_h, big_w)
                _paint(frame, mask, layer, target=index == 0)
            frames.append(colour(_shrink(frame, height, width)))
            masks.append(_shrink(mask, height, width))
        return Clip(np.stack(frames), np.stack(masks))


def _cut_out(rng: np.random.Generator, still: Still) -> NDArray[np.uint8]:
    """One object of a still: uint8 [h, w, 4], RGB and alpha, with a clear margin."""
    chosen = still.objects[rng.integers(len(still.objects))]
    alpha = (still.mask == chosen).astype(np.uint8) * np.uint8(255)
    x, y, w, h = cv2.boundingRect(alpha)
    frame, alpha = still.frame[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0).astype(np.uint8, copy=False)
    if rng.random() < 0.5:
        frame, alpha = frame[:, ::-1], alpha[:, ::-1]
    if rng.random() < 0.5:
        frame = Colour(rng)(np.ascontiguousarray(frame))
    cutout = np.dstack([frame, alpha])
    return cv2.copyMakeBorder(cutout, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0).astype(
        np.uint8, copy=False
    )


def _places(matrix: NDArray[np.float32], bend: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where each pixel of a clip comes from: float [H, W, 2], x and y."""
    inverse = cv2.invertAffineTransform(matrix)
    height, width = bend.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.dstack([x, y]) + bend
    return places @ inverse[:, :2].T.astype(np.float32) + inverse[:, 2].astype(np.float32)


def _paint(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8], layer: NDArray[np.uint8], *, target: bool
) -> None:
    """Lays a cut-out over frame and mask, in place."""
    x, y, w, h = cv2.boundingRect(layer[:, :, 3])
    if not w:
        return
    region = np.s_[y : y + h, x : x + w]
    alpha = layer[region][:, :, 3:].astype(np.uint16)
    colour = layer[region][:, :, :3].astype(np.uint16)
    frame[region] = ((frame[region] * (255 - alpha) + colour * alpha + 127) // 255).astype(np.uint8)
    alpha = alpha[:, :, 0]
    below = mask[region] * (255 - alpha) // 255
    mask[region] = (below + alpha if target else below).astype(np.uint8)


class Mixture:
    """Draws from several sources by weight."""

    def __init__(self, sources: list[tuple[ClipSource, float]]) -> None:
        self.sources = [source for source, _ in sources]
        weights = np.array([weight for _, weight in sources])
        self.weights = weights / weights.sum()

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip whose object can be seen in its first frame."""
        source = self.sources[rng.choice(len(self.sources), p=self.weights)]
        return _visible(source, rng, (length, height, width))
