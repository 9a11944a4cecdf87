"""Pictures drawn through affine maps and deformations.

OpenCV's ``warpAffine`` and ``remap`` take 0.33 ms for a picture of 448x256 with four channels but
1.9 and 1.3 ms with three (5.0, AVX2), so frames are warped as RGBA. torchvision's v2 ``affine``
takes 5.3 ms for frame and mask as one tensor, and 10.4 ms one after the other; this takes 0.8 ms.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [H, W], [H, W, 3] RGB or [H, W, 4] RGB and alpha
Matrix = NDArray[np.float32]  # [2, 3] affine map, pixel to pixel, or a stack of them [T, 2, 3]
Places = NDArray[np.float32]  # [H, W, 2], x and y

_LEAST_SCALE = 0.6  # of a bilinear warp, without visible aliasing


def halved(picture: Picture, scale: float) -> tuple[Picture, int]:
    """Halves a picture until it can be drawn at ``scale`` without aliasing.

    Returns:
        The picture and how often it was halved; see `for_halved`.
    """
    times = 0
    while scale < _LEAST_SCALE and min(picture.shape[:2]) >= 2:
        height, width = picture.shape[:2]
        size = (-(-width // 2), -(-height // 2))
        if width % 2 or height % 2:  # so that a pixel of the result is just four of the picture
            edge = cv2.BORDER_REPLICATE
            picture = _u8(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, edge))
        picture = _u8(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        scale, times = 2 * scale, times + 1
    return picture, times


def for_halved(matrix: Matrix, times: int) -> Matrix:
    """The map of a picture that was halved ``times`` times, from the map of the whole one."""
    factor = 2.0**times
    # Pixel x of the small picture lies at factor * (x + 0.5) - 0.5 of the large one.
    place = (factor - 1) / 2
    return chained(matrix, np.array([[factor, 0, place], [0, factor, place]], np.float32))


def chained(outer: Matrix, inner: Matrix) -> Matrix:
    """The map that goes through ``inner``, then through ``outer``."""
    through = outer[..., :2] @ inner
    through[..., 2] += outer[..., 2]
    return np.asarray(through, np.float32)


def warp(picture: Picture, matrix: Matrix, height: int, width: int) -> Picture:
    """The picture seen through ``matrix``.

    A frame goes on mirrored outside its borders; masks and cut-outs, which have alpha, end there.
    """
    wide, border = _wide(picture)
    return _narrow(cv2.warpAffine(wide, matrix, (width, height), borderMode=border), picture)


def bent(picture: Picture, places: Places) -> Picture:
    """The picture with its pixel ``places[y, x]`` at (x, y); outside its borders as `warp`."""
    wide, border = _wide(picture)
    x, y = cv2.split(places)
    return _narrow(cv2.remap(wide, x, y, cv2.INTER_LINEAR, borderMode=border), picture)


@lru_cache(maxsize=4)
def grid(height: int, width: int) -> Places:
    """Every pixel's own place; read-only."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.dstack([x, y])
    places.setflags(write=False)
    return places


def taken_back(matrix: Matrix, places: Places) -> Places:
    """The places that ``matrix`` carries to ``places``."""
    return cv2.transform(places, cv2.invertAffineTransform(matrix)).astype(np.float32, copy=False)


def lay(frame: Picture, mask: Picture, layer: Picture, *, target: bool) -> None:
    """Lays a cut-out over a frame and the object's mask, in place.

    Args:
        frame: [H, W, 3].
        mask: [H, W].
        layer: [H, W, 4].
        target: it is the object; others cover the object.
    """
    alpha = np.ascontiguousarray(layer[:, :, 3])
    clear = cv2.bitwise_not(alpha)
    colour = cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB)
    above = cv2.multiply(colour, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    below = cv2.multiply(frame, cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    frame[:] = cv2.add(above, below)
    left = cv2.multiply(mask, clear, scale=1 / 255)
    mask[:] = cv2.add(left, alpha) if target else left


def _wide(picture: Picture) -> tuple[Picture, int]:
    if picture.ndim == 3 and picture.shape[2] == 3:
        return _u8(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)), cv2.BORDER_REFLECT_101
    return picture, cv2.BORDER_CONSTANT


def _narrow(drawn: NDArray[np.generic], like: Picture) -> Picture:
    if like.ndim == 3 and like.shape[2] == 3:
        drawn = cv2.cvtColor(_u8(drawn), cv2.COLOR_RGBA2RGB)
    return _u8(drawn)


def _u8(array: NDArray[np.generic]) -> Picture:
    return array.astype(np.uint8, copy=False)
