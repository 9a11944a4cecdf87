"""Frames and masks from files, as a data set has them.

Files of a data set that cannot be used: named, and passed over or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Mask = NDArray[np.uint8]  # [H, W] object ids, 0 for the background

_BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises for broken files
_UNREADABLE = "is missing or is not a whole picture", "restore it or remove its entry"


def read_frame(path: Path) -> Frame:
    """A picture as RGB; an EXIF orientation is not applied, as masks have none.

    Raises:
        BadFile: the file is missing, truncated or no picture.
    """
    # Pillow takes 1.0 ms for a JPEG of 448x256, OpenCV 0.8, but fills what is cut off with grey.
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except _BROKEN as error:
        raise BadFile(path, *_UNREADABLE) from error


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> Mask:
    """Object ids of an index or grey PNG; a few of DAVIS's are grey saved with alpha or colours.

    Args:
        path: of the PNG.
        shape: height and width of its frame, where they are known.

    Raises:
        BadFile: the file is missing, truncated or no picture, or has another size than its frame.
    """
    try:
        with Image.open(path) as image:
            indexed = image if image.mode in ("P", "L", "1") else image.convert("L")
            mask = np.asarray(indexed).astype(np.uint8)
    except _BROKEN as error:
        raise BadFile(path, *_UNREADABLE) from error
    if shape is not None and mask.shape != shape:
        raise BadFile(
            path,
            f"is {mask.shape[1]}x{mask.shape[0]}, but its frame is {shape[1]}x{shape[0]}",
            "restore the one that is wrong",
        )
    return mask


def read_pair(frame_path: Path, mask_path: Path) -> tuple[Frame, Mask]:
    """A frame with its mask.

    Raises:
        BadFile: one is missing or damaged, or the mask has another size.
    """
    frame = read_frame(frame_path)
    return frame, read_mask(mask_path, (frame.shape[0], frame.shape[1]))


def foreground(mask: Mask, wanted: int | None) -> Mask:
    """255 where a mask has one id, or any."""
    chosen = mask > 0 if wanted is None else mask == wanted
    return chosen.astype(np.uint8) * np.uint8(255)


def decoded_size(path: Path) -> int:
    """Bytes of a picture and its mask in memory; 0 for what is no picture."""
    try:
        with Image.open(path) as image:
            return 4 * image.width * image.height
    except _BROKEN:
        return 0


_log = logging.getLogger("s2svos.data")


class BadFile(UserError):
    """A file or folder of a data set that is missing, damaged or contradicts the others.

    Args:
        path: what is wrong.
        fault: what is wrong with it, going on from the path.
        remedy: what to do about it, without a full stop.

    Attributes:
        path: what is wrong.
    """

    def __init__(self, path: Path, fault: str, remedy: str = "") -> None:
        super().__init__(f"{path} {fault}", remedy)
        self.path = path
        self.fault = fault

    def __reduce__(self) -> tuple[type[BadFile], tuple[Path, str, str]]:
        # An exception is pickled by its arguments; this one comes back from worker processes.
        return type(self), (self.path, self.fault, self.remedy)


class Faults:
    """What was passed over; each path is logged and counted once.

    Args:
        strict: the first one is raised instead.

    Attributes:
        found: what was wrong, by path.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.found: dict[Path, BadFile] = {}

    def note(self, *faults: BadFile) -> None:
        """Takes faults down.

        Raises:
            BadFile: the first of them, where the set is read strictly.
        """
        for fault in faults:
            if self.strict:
                raise fault
            if fault.path not in self.found:
                self.found[fault.path] = fault
                _log.warning("skipped: %s", fault)


def summary(faults: Iterable[BadFile]) -> str:
    """One line for the end of a run: how many, and the first of them; empty if there is none."""
    listed = list(faults)
    if not listed:
        return ""
    files = "1 file was" if len(listed) == 1 else f"{len(listed)} files were"
    return f"{files} skipped, first {listed[0].path}"
