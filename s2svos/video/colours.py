"""Masks painted in colours: each is an object, black or transparent the background."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from s2svos.video.pictures import NoIdsError
from s2svos_engines.arrays import Labels

MOST = 255  # objects
_OPAQUE = 128  # of 255
_BLACK = 16  # of 255, up to which a channel is dark enough for the background
_RARE = 200  # a colour with less than one of so many painted pixels is an edge's


class Painted(NamedTuple):
    """Objects by their colours.

    Args:
        ids: uint8 [H, W].
        palette: 256 RGB colours, 768 bytes.
        text: which colour is which object.
    """

    ids: Labels
    palette: bytes
    text: str


def read_colours(path: Path, known: bytes) -> Painted:
    """Read a picture in which each colour is an object.

    Colours between two others, as smoothed edges have them, go to the nearest that fills an area.

    Args:
        path: of a picture in RGB or RGBA.
        known: a palette, 768 bytes; if it has all of the colours, its indices are the ids.

    Raises:
        NoIdsError: it has no black or transparent background, or too many colours.
        OSError, SyntaxError, ValueError: it is no whole picture.
    """
    with Image.open(path) as opened:
        pixels = np.array(ImageOps.exif_transpose(opened).convert("RGBA"))
    colours = pixels[..., :3].astype(np.int64)
    painted = (pixels[..., 3] >= _OPAQUE) & (colours.max(2) > _BLACK)
    if painted.all():
        raise NoIdsError("has colours and no black or transparent background")
    codes = colours @ np.array([1 << 16, 1 << 8, 1])
    codes[~painted] = 0
    found, counts = np.unique(codes[painted], return_counts=True)
    areas = [
        int(code)
        for code, count in sorted(zip(found, counts, strict=True), key=lambda one: -one[1])[:1000]
        if count * _RARE >= painted.sum() and _fills(codes == code)
    ]
    if not areas or len(areas) > MOST:
        raise NoIdsError(f"has {len(found)} colours of which {len(areas)} fill an area")
    ids = _ids(areas, known)
    nearest = _nearest(found, np.array([0, *areas]))
    table = np.array([0, *(ids[code] for code in areas)], np.uint8)
    labels = np.zeros(codes.shape, np.uint8)
    labels[painted] = table[nearest[np.searchsorted(found, codes[painted])]]
    palette = np.frombuffer(known, np.uint8).reshape(256, 3).copy()
    for code, one in ids.items():
        palette[one] = code >> 16, code >> 8 & 255, code & 255
    text = ", ".join(
        f"{one} is #{code:06x}" for code, one in sorted(ids.items(), key=lambda x: x[1])
    )
    return Painted(labels, palette.tobytes(), text)


def _fills(place: NDArray[np.bool_]) -> bool:
    """Return whether a colour has a pixel with its own all around."""
    inner = cv2.erode(place.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    return bool(inner.any())


def _ids(areas: list[int], known: bytes) -> dict[int, int]:
    """Return the ids of colours: the known ones' indices if all are known, else by their areas."""
    indices = {
        int.from_bytes(known[3 * index : 3 * index + 3], "big"): index
        for index in range(255, 0, -1)
    }
    if indices.keys() >= set(areas):
        return {code: indices[code] for code in areas}
    return {code: index for index, code in enumerate(areas, 1)}


def _nearest(codes: NDArray[np.int64], areas: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each colour the index of the nearest of some, [n]; channel by channel."""

    def channels(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack([values >> 16, values >> 8 & 255, values & 255], 1)

    parts = np.array_split(channels(codes), max(1, len(codes) // 4096))
    distances = (((part[:, None] - channels(areas)) ** 2).sum(2).argmin(1) for part in parts)
    return np.concatenate(list(distances))
