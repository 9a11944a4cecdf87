"""Files of a data set: frames and masks, and the record of those that cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from s2svos.video.pictures import (
    BROKEN,
    HOW_IDS_ARE_READ,
    NoIdsError,
    picture_size,
    read_ids,
    read_rgb,
)
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.cpu import cpu_count
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import object_masks

LOGGER = "s2svos.data"
"""Name of the logger that warns of skipped files."""

Item = TypeVar("Item")
Content = TypeVar("Content")

_UNREADABLE = "is missing or is not a whole picture", "restore it or remove its entry"
_log = logging.getLogger(LOGGER)


class BadFileError(UserError):
    """A file or folder of a data set is missing, damaged or contradicts the others.

    Args:
        path: of the file or folder.
        defect: what is wrong with it, a sentence that goes on from the path.
        remedy: what to do about it, without a full stop.

    Attributes:
        path: of the file or folder.
    """

    def __init__(self, path: Path, defect: str, remedy: str = "") -> None:
        super().__init__(f"{path} {defect}", remedy)
        self.path = path
        self._defect = defect

    def __reduce__(self) -> tuple[type[BadFileError], tuple[Path, str, str]]:
        # An exception is pickled by its arguments; this one comes back from worker processes.
        return type(self), (self.path, self._defect, self.remedy)


class SkippedFiles:
    """The files that were passed over; each path is logged and counted once.

    Args:
        strict: the first one is raised instead.

    Attributes:
        errors: what was wrong, by path.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.errors: dict[Path, BadFileError] = {}
        self._strict = strict

    def add(self, *errors: BadFileError) -> None:
        """Record files.

        Raises:
            BadFileError: the first of them, if the set is read strictly.
        """
        for error in errors:
            if self._strict:
                raise error
            if error.path not in self.errors:
                self.errors[error.path] = error
                _log.warning("skipped: %s", error)

    def summary(self) -> str:
        """Return how many there are and the first of them in one line, "" if there is none."""
        if not self.errors:
            return ""
        files = "1 file was" if len(self.errors) == 1 else f"{len(self.errors)} files were"
        return f"{files} skipped, first {next(iter(self.errors))}"


def read_frame(path: Path) -> Frame:
    """Read a picture, upright, as RGB.

    Raises:
        BadFileError: the file is missing, truncated or no picture.
    """
    try:
        return read_rgb(path)
    except (*BROKEN, UserError) as error:
        raise BadFileError(path, *_UNREADABLE) from error


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> Labels:
    """Read the object ids of an indexed or grey PNG.

    Args:
        path: of the PNG.
        shape: height and width of its frame, if they are known.

    Raises:
        BadFileError: the file is missing, truncated, no picture of ids, or of another size than
            its frame.
    """
    try:
        labels, _ = read_ids(path)
    except NoIdsError as error:
        raise BadFileError(path, str(error), HOW_IDS_ARE_READ) from error
    except (*BROKEN, UserError) as error:
        raise BadFileError(path, *_UNREADABLE) from error
    if shape is not None and labels.shape != shape:
        raise BadFileError(
            path,
            f"is {labels.shape[1]}x{labels.shape[0]}, but its frame is {shape[1]}x{shape[0]}",
            "restore the one that is wrong",
        )
    return labels


def read_pair(frame_path: Path, mask_path: Path) -> tuple[Frame, Labels]:
    """Read a frame with its mask.

    Raises:
        BadFileError: one is missing or damaged, or the mask has another size.
    """
    frame = read_frame(frame_path)
    return frame, read_mask(mask_path, (frame.shape[0], frame.shape[1]))


def read_all(
    items: Iterable[Item], read: Callable[[Item], Content]
) -> Iterator[Content | BadFileError]:
    """Read many files in threads; yields in order what ``read`` returns or could not use."""

    def attempt(item: Item) -> Content | BadFileError:
        try:
            return read(item)
        except BadFileError as error:
            return error

    with ThreadPoolExecutor(cpu_count()) as pool:
        yield from pool.map(attempt, items)


def foreground(labels: Labels, object_id: int | None) -> Labels:
    """Return 255 where labels [H, W] have one id, or any if ``object_id`` is None."""
    if object_id is None:
        labels, object_id = np.minimum(labels, 1), 1
    return np.asarray(object_masks(labels, [object_id])[0])


def decoded_size(path: Path) -> int:
    """Return the bytes of a picture and its mask in memory, 0 for a file that is no picture."""
    try:
        width, height = picture_size(path)
        return 4 * width * height
    except (*BROKEN, UserError):
        return 0
