"""Still pictures, read by one rule wherever they come from: frames, first masks and data sets.

Pictures are turned as their EXIF orientation asks for. Values of more than 8 bits become 8 bits as
FFmpeg makes them, by dividing; ids stay as they are stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from s2svos_engines.arrays import Frame
from s2svos_engines.files import need_regular_file

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
# What Pillow raises for broken files, and for those that state a size that no memory holds.
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
HOW_IDS_ARE_READ = (
    "an object's id is its palette index or its grey value, 0 is the background, so save the mask "
    "as an indexed or a grey PNG"
)
_LOSSY = {"JPEG", "MPO", "WEBP"}
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads 2 and 4 bits over 0..255
_WHITE16 = 65535
_TURNED = range(5, 9)  # EXIF's orientations in which width is height


class NoIdsError(Exception):
    """A picture holds no ids; says what it holds instead, a sentence that goes on from its name."""


class InColoursError(NoIdsError):
    """A picture has several channels that differ, or places that are transparent."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture, upright.

    Raises:
        BROKEN: it is no picture.
        UserError: it is no file that holds still, as a pipe.
    """
    need_regular_file(path)
    with Image.open(path) as image:
        # Pillow decodes the whole of a PNG to look for EXIF behind its pixels.
        has_exif = image.format != "PNG" or "exif" in image.info
        turned = has_exif and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        return (image.height, image.width) if turned else image.size


def read_rgb(path: Path) -> Frame:
    """Read a picture, upright, as uint8 [H, W, 3] RGB; transparency is left away.

    Raises:
        BROKEN: it is no whole picture, or of floats that are not from 0 to 1.
        UserError: it is no file that holds still, as a pipe.
    """
    # Pillow takes 1.0 ms for a JPEG of 448x256, OpenCV 0.8, but fills what is cut off with grey.
    need_regular_file(path)
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F" or image.mode.startswith("I"):
            return np.repeat(_grey8(np.asarray(image))[..., None], 3, 2)
        return np.array(image.convert("RGB"), np.uint8)


def brightest_of_16_bits(path: Path) -> int | None:
    """Return the largest value of a picture of 16 bits a pixel; None of any other."""
    with Image.open(path) as image:
        return int(np.asarray(image).max()) if image.mode.startswith("I") else None


def read_ids(path: Path) -> tuple[NDArray[np.uint8], bytes | None]:
    """Read the object ids of an indexed or grey picture.

    Grey is also what has three equal channels: a few of DAVIS's masks are saved so.

    Returns:
        ids, uint8 [H, W], upright; and the palette, 768 bytes, None of a grey picture.

    Raises:
        NoIdsError: it has colours, transparent places, losses, fractions or ids above 255.
        BROKEN: it is no whole picture.
        UserError: it is no file that holds still, as a pipe.
    """
    need_regular_file(path)
    with Image.open(path) as opened:
        if opened.format in _LOSSY:
            raise NoIdsError("is lossy, which smears ids")
        step = _GREY_STEPS.get(str(opened.tile[0].args), 1) if opened.mode == "L" else 1
        image = ImageOps.exif_transpose(opened)
        palette = None
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB") or []).ljust(768, b"\0")
            values = np.array(image)
        elif image.mode in ("1", "L"):
            values = np.array(image).astype(np.uint8) // step
        elif image.mode.startswith("I"):
            values = np.array(image).astype(np.int64)
        else:
            values = _grey(image)
    if values.min() < 0 or values.max() > 255:
        raise NoIdsError(f"holds the value {values.max()}, but ids go up to 255")
    return values.astype(np.uint8), palette


def _grey8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return integers of 16 bits, or floats from 0 to 1, as uint8."""
    if np.issubdtype(values.dtype, np.floating):
        if not (values >= 0).all() or not (values <= 1).all():
            raise ValueError("floats that are not from 0 to 1")
        return np.asarray(values * 255 + 0.5, np.uint8)
    whole = values.astype(np.int64)
    if whole.min() < 0 or whole.max() > _WHITE16:
        raise ValueError("integers of more than 16 bits")
    return ((whole * 255 + _WHITE16 // 2) // _WHITE16).astype(np.uint8)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Return the one value of each pixel of a picture of several channels.

    Raises:
        NoIdsError: they differ, or a place is transparent.
    """
    if image.mode in ("LA", "RGB", "RGBA"):
        channels = np.array(image)
        colours = channels[..., :-1] if image.mode.endswith("A") else channels
        opaque = not image.mode.endswith("A") or bool((channels[..., -1] == 255).all())
        if opaque and (colours == colours[..., :1]).all():
            return np.ascontiguousarray(colours[..., 0])
    raise InColoursError(f"has colours or transparency ({image.mode})")
