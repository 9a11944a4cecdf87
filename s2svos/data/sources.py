"""Where training pictures come from: DAVIS sequences and stills with masks, held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Mask = NDArray[np.uint8]  # [H, W] object ids, 0 for the background


@dataclass(frozen=True)
class Still:
    """One picture with the ids of its objects."""

    frame: Frame
    mask: Mask
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Sequence:
    """Consecutive frames of one scene with one object, id 1."""

    name: str
    frames: tuple[Frame, ...]
    masks: tuple[Mask, ...]


def read_frame(path: Path) -> Frame:
    """A picture as RGB.

    Raises:
        UserError: the file is missing or no picture.
    """
    frame = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if frame is None:
        raise UserError(f"{path} is missing or is not a picture; restore it or remove its entry.")
    return frame.astype(np.uint8, copy=False)


def read_mask(path: Path) -> Mask:
    """Object ids of an index or grey PNG; a few of DAVIS's are grey saved with alpha or colours.

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            indexed = image if image.mode in ("P", "L", "1") else image.convert("L")
            return np.asarray(indexed).astype(np.uint8)
    except OSError as error:
        raise UserError(f"{path} is missing or is not a picture; restore it.") from error


def davis_split(root: Path, split: str) -> list[str]:
    """Names of the sequences of ``ImageSets/2016/<split>.txt``.

    Raises:
        UserError: ``root`` is not a DAVIS folder.
    """
    path = root / "ImageSets" / "2016" / f"{split}.txt"
    if not path.is_file():
        raise UserError(f"{path} is missing; --davis must name a folder in DAVIS 2016's layout.")
    return path.read_text().split()


def davis_paths(root: Path, name: str) -> tuple[list[Path], list[Path]]:
    """Frames and masks of a DAVIS sequence, in order; frames without a mask are left out."""
    masks = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
    frames = [root / "JPEGImages" / "480p" / name / f"{mask.stem}.jpg" for mask in masks]
    if not masks:
        raise UserError(f"{root} holds no masks of the sequence {name}; complete the data set.")
    return frames, masks


def davis_sequences(root: Path, split: str) -> list[Sequence]:
    """The sequences of a split in DAVIS 2016's sense: whatever is annotated is one object."""
    sequences = []
    for name in davis_split(root, split):
        frames, masks = davis_paths(root, name)
        ids = tuple((read_mask(path) > 0).astype(np.uint8) for path in masks)
        sequences.append(Sequence(name, tuple(map(read_frame, frames)), ids))
    return sequences


def stills(root: Path, *, least_share: float = 0.004) -> list[Still]:
    """Every picture ``<set>/<name>.jpg`` below ``root`` that has a mask ``<name>.png``.

    Args:
        root: folder of sets.
        least_share: objects that cover less of the picture are not followed.

    Raises:
        UserError: there is none.
    """
    found = []
    for path in sorted(root.glob("*/*.png")):
        mask = read_mask(path)
        counts = np.bincount(mask.ravel(), minlength=2)
        counts[0] = 0
        objects = tuple(int(i) for i in np.flatnonzero(counts > least_share * mask.size))
        if objects:
            found.append(Still(read_frame(path.with_suffix(".jpg")), mask, objects))
    if not found:
        raise UserError(f"{root} holds no pictures with masks; expected <set>/<name>.jpg and .png.")
    return found
