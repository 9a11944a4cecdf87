"""Affine and free-form warps of pictures.

OpenCV's ``warpAffine`` and ``remap`` take 0.33 ms for a picture of 448x256 with four channels but
1.9 and 1.3 ms with three (5.0, AVX2), so frames are warped as RGBA. torchvision's v2 ``affine``
takes 5.3 ms for frame and mask as one tensor, and 10.4 ms one after the other; this takes 0.8 ms.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [H, W], [H, W, 3] RGB, or [H, W, 4] RGB and alpha."""

Matrix = NDArray[np.float32]
"""An affine map from pixel to pixel, float32 [2, 3], or one a frame, [T, 2, 3]."""

Grid = NDArray[np.float32]
"""The coordinates that each pixel is sampled from, float32 [H, W, 2], x and y."""

_LEAST_SCALE = 0.6  # of a bilinear warp, without visible aliasing


def pyramid_level(picture: Picture, scale: float) -> tuple[Picture, int]:
    """Halve a picture until it can be drawn at ``scale`` without aliasing.

    Returns:
        The picture and its level, the number of times that it was halved; see :func:`at_level`.
    """
    level = 0
    while scale < _LEAST_SCALE and min(picture.shape[:2]) >= 2:
        height, width = picture.shape[:2]
        size = (-(-width // 2), -(-height // 2))
        if width % 2 or height % 2:  # so that a pixel of the result is just four of the picture
            edge = cv2.BORDER_REPLICATE
            picture = _u8(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, edge))
        picture = _u8(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        scale, level = 2 * scale, level + 1
    return picture, level


def at_level(matrix: Matrix, level: int) -> Matrix:
    """Return the map of a level of the pyramid, from the map of the picture at full size."""
    factor = 2.0**level
    # Pixel x of the small picture lies at factor * (x + 0.5) - 0.5 of the large one.
    offset = (factor - 1) / 2
    return compose(matrix, np.array([[factor, 0, offset], [0, factor, offset]], np.float32))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the map that applies ``inner``, then ``outer``."""
    composed = outer[..., :2] @ inner
    composed[..., 2] += outer[..., 2]
    return np.asarray(composed, np.float32)


def warp_affine(picture: Picture, matrix: Matrix, height: int, width: int) -> Picture:
    """Draw a picture through ``matrix`` on ``height`` x ``width`` pixels.

    A frame is mirrored outside its borders. Masks and cut-outs, which have alpha, end there.
    """
    wide, border = _with_alpha(picture)
    return _as_before(cv2.warpAffine(wide, matrix, (width, height), borderMode=border), picture)


def remap(picture: Picture, grid: Grid) -> Picture:
    """Draw a picture with its pixel ``grid[y, x]`` at (x, y); borders as :func:`warp_affine`."""
    wide, border = _with_alpha(picture)
    x, y = cv2.split(grid)
    return _as_before(cv2.remap(wide, x, y, cv2.INTER_LINEAR, borderMode=border), picture)


@lru_cache(maxsize=4)
def identity_grid(height: int, width: int) -> Grid:
    """Return the grid that samples every pixel from itself; read-only."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.dstack([x, y])
    grid.setflags(write=False)
    return grid


def invert(matrix: Matrix, grid: Grid) -> Grid:
    """Return the coordinates that ``matrix`` maps to those of ``grid``."""
    return cv2.transform(grid, cv2.invertAffineTransform(matrix)).astype(np.float32, copy=False)


def composite(frame: Picture, masks: Picture, layer: Picture, *, number: int | None) -> None:
    """Draw a cut-out over a frame and over the masks of objects, in place.

    Args:
        frame: [H, W, 3].
        masks: [K, H, W].
        layer: the cut-out, [H, W, 4].
        number: of the object that the cut-out is; None: it covers all of them.
    """
    alpha = np.ascontiguousarray(layer[:, :, 3])
    clear = cv2.bitwise_not(alpha)
    colour = cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB)
    above = cv2.multiply(colour, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    below = cv2.multiply(frame, cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    frame[:] = cv2.add(above, below)
    for index, mask in enumerate(masks):
        uncovered = cv2.multiply(mask, clear, scale=1 / 255)
        mask[:] = cv2.add(uncovered, alpha) if index == number else uncovered


def _with_alpha(picture: Picture) -> tuple[Picture, int]:
    """Return a picture as it is warped, a frame as RGBA, and its kind of border."""
    if picture.ndim == 3 and picture.shape[2] == 3:
        return _u8(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)), cv2.BORDER_REFLECT_101
    return picture, cv2.BORDER_CONSTANT


def _as_before(drawn: NDArray[np.generic], like: Picture) -> Picture:
    """Return what was drawn with the channels of ``like``."""
    if like.ndim == 3 and like.shape[2] == 3:
        drawn = cv2.cvtColor(_u8(drawn), cv2.COLOR_RGBA2RGB)
    return _u8(drawn)


def _u8(array: NDArray[np.generic]) -> Picture:
    return array.astype(np.uint8, copy=False)
