"""Resized copies of a data set's files: the list of copies, and how each is made."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from s2svos.data.config import DataConfig, DataKind, parse_data
from s2svos.data.files import BadFileError, SkippedFiles, read_frame, read_mask
from s2svos.data.layouts import FRAMES, first_folder
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.pictures import read_ids
from s2svos.video.reader import natural_key
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

QUALITY = 95  # of the JPEGs: 39 dB PSNR to the resized original, mean over 30 videos of DAVIS


@dataclass(frozen=True)
class Size:
    """The size of copies: exactly ``height`` x ``width``, or, without a width, the shorter side.

    With a shorter side pictures keep their proportions and are never enlarged. As text it is
    ``256x448``, rows first, or ``256``.
    """

    height: int
    width: int | None = None

    def __str__(self) -> str:
        return str(self.height) if self.width is None else f"{self.height}x{self.width}"

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the copy of a picture."""
        if self.width is not None:
            return self.height, self.width
        scale = min(1.0, self.height / min(height, width))
        return max(1, round(scale * height)), max(1, round(scale * width))


class Copy(ABC):
    """Files that belong together and are copied together."""

    @property
    @abstractmethod
    def outputs(self) -> list[Path]:
        """Paths of the copies."""

    @abstractmethod
    def make(self, size: Size) -> list[BadFileError]:
        """Write the copies that are not there, each atomically.

        Returns:
            The files that could not be read and therefore were not copied.

        Raises:
            OSError: they cannot be written.
        """

    @property
    def missing(self) -> int:
        """Number of copies that are not there."""
        return sum(not path.exists() for path in self.outputs)


@dataclass(frozen=True)
class FileCopy(Copy):
    """A file that is copied as it is."""

    path: Path
    out: Path

    @property
    def outputs(self) -> list[Path]:
        """Path of the copy."""
        return [self.out]

    def make(self, size: Size) -> list[BadFileError]:
        """Write the copy."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out, self.path.read_bytes())
        return []


@dataclass(frozen=True)
class PictureCopy(Copy):
    """A frame that becomes a JPEG, with its mask, if it has one, that becomes a palette PNG."""

    frame: Path
    frame_out: Path
    mask: tuple[Path, Path] | None

    @property
    def outputs(self) -> list[Path]:
        """Paths of the JPEG and of the PNG."""
        return [self.frame_out, *(self.mask[1:] if self.mask else ())]

    def make(self, size: Size) -> list[BadFileError]:
        """Write frame and mask at their new size."""
        for path in self.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            frame = read_frame(self.frame)
            native = (frame.shape[0], frame.shape[1])
            if not self.frame_out.exists():
                _write_frame(self.frame, frame, self.frame_out, size.of(*native))
            if self.mask and not self.mask[1].exists():
                _write_mask(*self.mask, native, size.of(*native))
        except BadFileError as error:
            return [error]
        return []


def parse_source(text: str) -> DataConfig:
    """Parse a data set of the command line, ``DIR`` or as ``s2svos train`` takes it, ``davis=DIR``.

    Raises:
        UserError: there is no such folder, or its layout is unknown.
    """
    config = None if Path(text).is_dir() or "=" not in text else parse_data(text)
    root = Path((config and config.root) or text)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder", "name the folder of a data set")
    return config or DataConfig(_detect_kind(root), str(root))


def _detect_kind(root: Path) -> DataKind:
    if (root / "JPEGImages" / "480p").is_dir():
        return DataKind.DAVIS
    if any(root.glob("*/meta.json")):
        return DataKind.YOUTUBE_VOS
    if any((root / name).is_dir() for name in ("frames", "JPEGImages")):
        return DataKind.FOLDER
    if any(path.with_suffix(".jpg").is_file() for path in root.glob("*/*.png")):
        return DataKind.STILLS
    raise UserError(
        f"{root} is in no known layout",
        f"say which with davis={root}, youtube-vos={root}, stills={root} or folder={root}",
    )


def copies(config: DataConfig, out: Path, skipped: SkippedFiles) -> list[Copy]:
    """Return the copies to make of a data set, all of its splits.

    Args:
        config: kind and folder.
        out: folder of the copy, which has the same layout.
        skipped: records masks without a frame.

    Raises:
        UserError: the folder is not in that layout, or empty.
    """
    root = Path(config.root or "")
    found: list[Copy] = []
    for frames, masks in _trees(config.kind, root):
        found += _pairs(root, frames, masks, out, skipped)
    if not found:
        raise UserError(f"{root} holds no pictures in the layout {config.kind}", "name another")
    lists = {DataKind.DAVIS: "ImageSets/**/*.txt", DataKind.YOUTUBE_VOS: "*/meta.json"}
    for path in sorted(root.glob(lists[config.kind])) if config.kind in lists else ():
        found.append(FileCopy(path, out / path.relative_to(root)))
    return found


def _trees(kind: DataKind, root: Path) -> list[tuple[Path, Path]]:
    """Return folders of frames, each with the folder whose masks have the frames' names."""
    match kind:
        case DataKind.DAVIS:
            return [(root / "JPEGImages" / "480p", root / "Annotations" / "480p")]
        case DataKind.YOUTUBE_VOS:
            splits = sorted(path.parent for path in root.glob("*/JPEGImages"))
            return [(split / "JPEGImages", split / "Annotations") for split in splits]
        case DataKind.FOLDER:
            masks = first_folder(root, "masks", "Annotations")
            return [(first_folder(root, "frames", "JPEGImages"), masks)]
        case DataKind.STILLS:
            return [(path, path) for path in sorted(root.iterdir()) if path.is_dir()]
        case DataKind.SYNTHETIC:
            raise UserError("Synthetic clips have no files to prepare", "name a folder")


def _pairs(
    root: Path, frames: Path, masks: Path, out: Path, skipped: SkippedFiles
) -> Iterator[PictureCopy]:
    # Stills lie beside their masks, which are then the only PNGs.
    pictures = _by_name(_files(frames, FRAMES - {".png"} if frames == masks else FRAMES), frames)
    annotated = _by_name(_files(masks, {".png"}), masks)
    for name, path in annotated.items():
        if name not in pictures:
            skipped.add(BadFileError(path, f"has no frame in {frames}", "complete the data set"))
    for name, path in pictures.items():
        mask = annotated.get(name)
        yield PictureCopy(
            path,
            (out / path.relative_to(root)).with_suffix(".jpg"),
            (mask, out / mask.relative_to(root)) if mask else None,
        )


def _files(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    """Yield the pictures below a folder, video by video, in order.

    Links to folders are followed, but into no folder twice: a link may lead to where it lies.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        place = os.stat(parent)
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort(key=lambda name: (Path(parent, name).is_symlink(), name))
        for name in sorted(files, key=natural_key):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                yield path


def _by_name(paths: Iterable[Path], folder: Path) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("")
        if name in found:
            raise UserError(f"{path} has the name of {found[name].name}", "leave one a frame")
        found[name] = path
    return found


def _write_frame(path: Path, frame: Frame, out: Path, target: tuple[int, int]) -> None:
    """Write a resized frame; one that has the size already is copied, not compressed again."""
    if frame.shape[:2] == target and path.suffix.lower() in (".jpg", ".jpeg"):
        write_atomically(out, path.read_bytes())
        return
    method = cv2.INTER_AREA if target[0] < frame.shape[0] else cv2.INTER_CUBIC
    resized = cv2.resize(frame, (target[1], target[0]), interpolation=method)
    bgr = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    write_atomically(out, jpeg.tobytes())


def _write_mask(path: Path, out: Path, native: tuple[int, int], target: tuple[int, int]) -> None:
    mask, palette = read_mask(path, native), read_ids(path)[1]
    # The exact variant: plain nearest shifts the mask by up to half a pixel.
    resized = cv2.resize(mask, (target[1], target[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    write_mask(out, resized.astype(np.uint8, copy=False), palette or davis_palette())
