"""Masks as PNG files: object ids as palette indices or grey values, 0 for the background."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from zlib_ng import zlib_ng

from s2svos.video.annotations import read_annotations
from s2svos.video.colours import read_colours
from s2svos.video.pictures import (
    BROKEN,
    HOW_IDS_ARE_READ,
    InColoursError,
    NoIdsError,
    picture_size,
    read_ids,
)
from s2svos_engines.arrays import Labels, object_ids
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

_PNG, _INDEXED = b"\x89PNG\r\n\x1a\n", 3  # a file's first bytes; the colour type
_BLACK = 16  # of 255: a palette's colour below that stands for nothing


@dataclass(frozen=True)
class FirstMask:
    """The objects on the first frame.

    Args:
        path: file that they were read from.
        ids: uint8 [H, W].
        palette: 256 RGB colours, 768 bytes; DAVIS's for a grey mask.
        doubts: sentences on what may be meant otherwise.
        names: what objects are called, by id, where the file says it.
    """

    path: Path
    ids: Labels
    palette: bytes
    doubts: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def objects(self) -> tuple[int, ...]:
        """Labels of the objects, rising."""
        return tuple(object_ids(self.ids).tolist())


def read_first_mask(path: str | Path, *, size: tuple[int, int]) -> FirstMask:
    """Read the mask of the first frame; ids stay as they are in the file.

    Args:
        path: a palette or grey picture, 1 to 16 bits, without loss; one in which each colour is
            an object; or a JSON of LabelMe or COCO.
        size: height and width of the video.

    Raises:
        UserError: missing, no picture, of another size, lossy, without an object, in colours
            without a background, with an id above 255, with ids of smoothed edges, or a palette
            whose background is not 0.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            return _annotated(path, size)
        width, height = picture_size(path)
        if (height, width) != size:
            raise UserError(
                f"The mask {path} is {width}x{height}, but the video is {size[1]}x{size[0]}",
                "make the mask on the video's own first frame",
            )
        ids, palette, painted = _read(path)
    except FileNotFoundError as error:
        raise UserError(f"The mask {path} does not exist", "check its path") from error
    except NoIdsError as error:
        raise UserError(f"The mask {path} {error}", HOW_IDS_ARE_READ) from error
    except BROKEN as error:
        raise UserError(
            f"The mask {path} cannot be read as a picture", "save it as an indexed or grey PNG"
        ) from error
    if not ids.any():
        raise UserError(f"The mask {path} is empty", HOW_IDS_ARE_READ)
    doubts = [
        *painted,
        *specks(ids, f"The mask {path}"),
        *_background(ids, palette, f"The mask {path}"),
    ]
    return FirstMask(path, ids, palette or davis_palette(), tuple(doubts))


def mask_of_boxes(
    boxes: Mapping[int, tuple[int, int, int, int]], size: tuple[int, int]
) -> FirstMask:
    """Return the mask of boxes, which are drawn in a hurry: the network finds their objects' edges.

    Args:
        boxes: left, top, width and height in pixels, by id; smaller ones lie over larger ones.
        size: height and width of the video.

    Raises:
        UserError: one has no pixel in the frame.
    """
    ids = np.zeros(size, np.uint8)
    for one, (left, top, width, height) in sorted(
        boxes.items(), key=lambda item: -item[1][2] * item[1][3]
    ):
        place = ids[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        if not place.size:
            raise UserError(
                f"The box of object {one} lies beyond the frame, {size[1]}x{size[0]}",
                "say ID=LEFT,TOP,WIDTH,HEIGHT in pixels",
            )
        place[:] = one
    return FirstMask(Path("--box"), ids, davis_palette())


def _annotated(path: Path, size: tuple[int, int]) -> FirstMask:
    found = read_annotations(path, size)
    if not found.ids.any():
        raise UserError(f"The mask {path} is empty", "annotate at least one object")
    return FirstMask(path, found.ids, davis_palette(), (found.told,), found.names)


def _read(path: Path) -> tuple[Labels, bytes | None, list[str]]:
    """Return ids, palette, and which colour was taken for which id."""
    try:
        return *read_ids(path), []
    except InColoursError:
        painted = read_colours(path, davis_palette())
        told = f"The mask {path} is in colours: object {painted.text}."
        return painted.ids, painted.palette, [told]


def specks(ids: Labels, name: str) -> list[str]:
    """Look for ids that are no objects but the edges of others, smoothed or dithered.

    Those have no place all around which the id goes on, and border on others.

    Args:
        ids: uint8 [H, W], of a frame on which objects enter.
        name: of the mask, for the sentences.

    Returns:
        sentences about single ones.

    Raises:
        UserError: most of the ids are such.
    """
    found = object_ids(ids).tolist()
    thin = [i for i in found if len(found) > 1 and _is_edge(ids, i)]
    if len(thin) > 1 and 2 * len(thin) > len(found):
        raise UserError(
            f"{name} has {len(found)} ids, of which {len(thin)} (as {thin[0]} and {thin[1]}) are "
            "no wider than a line on the edge of another: its edges were smoothed or dithered",
            "save it without smoothing, each object with one value",
        )
    return [f"{name} has an id {i} that is no wider than a line on another's edge." for i in thin]


def _is_edge(ids: Labels, one: int) -> bool:
    place = np.asarray(ids == one, np.uint8)
    x, y, width, height = cv2.boundingRect(place)
    around = np.s_[max(0, y - 1) : y + height + 1, max(0, x - 1) : x + width + 1]
    place, others = place[around], ids[around]
    square = np.ones((3, 3), np.uint8)
    inner = cv2.erode(place, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    beside = (cv2.dilate(place, square) > place) & (others > 0)
    return not inner.any() and bool(beside.any())


def _background(ids: Labels, palette: bytes | None, name: str) -> list[str]:
    """Look for a background that is not 0, as programs make it that sort a palette.

    Raises:
        UserError: index 0 has a colour, and black is what another index stands for.
    """
    counts = np.bincount(ids.ravel(), minlength=256)
    named = np.flatnonzero(counts).tolist()
    odd = palette is not None and not _is_black(palette, 0)
    if odd and (black := [i for i in named if _is_black(palette, i)]):
        raise UserError(
            f"{name} has index {black[0]} for black, but index 0 is the background",
            "save it with a palette that begins with the background's colour",
        )
    if 0 not in named:
        return [f"{name} has no background: no pixel is 0."]
    most = int(counts.argmax())
    if odd and most:
        return [f"{name} has more of index {most} than of 0, which is the background."]
    return []


def _is_black(palette: bytes | None, index: int) -> bool:
    return palette is not None and max(palette[3 * index : 3 * index + 3]) < _BLACK


def davis_palette() -> bytes:
    """Return the colours of PASCAL VOC and DAVIS, 768 bytes: an id's bits spread over channels."""
    colours = np.zeros((256, 3), np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            source = 3 * bit + channel
            colours[:, channel] |= ((ids >> source & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def write_mask(path: Path, ids: Labels, palette: bytes) -> None:
    """Write a mask under a temporary name and rename it, so that what has a name is whole.

    Args:
        path: of the PNG.
        ids: uint8 [H, W].
        palette: 256 RGB colours, 768 bytes.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    write_atomically(path, mask_png(ids, palette))


def mask_png(ids: Labels, palette: bytes) -> bytes:
    """Return the indexed PNG of ids, uint8 [H, W], with a palette of 768 bytes.

    Run lengths by zlib-ng: 0.13 ms for 2.6 kB at 854x480. Pillow tries filters, which gain nothing
    on ids: 0.94 ms for as many bytes.
    """
    height, width = ids.shape
    rows = np.zeros((height, 1 + width), np.uint8)  # before each row the filter's number, none
    rows[:, 1:] = ids
    packer = zlib_ng.compressobj(1, strategy=zlib_ng.Z_RLE)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0)),
        (b"PLTE", palette),
        (b"IDAT", packer.compress(rows) + packer.flush()),
        (b"IEND", b""),
    )
    return _PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib_ng.crc32(kind + data))
        for kind, data in chunks
    )
