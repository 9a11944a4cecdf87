"""A project: what was painted and what was followed, in a folder beside the video."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from s2svos.locks import content
from s2svos.saving.convert import convert, read_result
from s2svos.saving.formats import FORMATS
from s2svos.video.decoder import frame_name
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.overlay import overlay_colours
from s2svos.video.pictures import BROKEN, NoIdsError, read_ids
from s2svos.video.reader import Video
from s2svos_engines.arrays import Labels, object_ids
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically

GIVEN, FOLLOWED = "given", "followed"
MASKS = "masks.zip"
EXPORTS = (MASKS, *(name for name, one in FORMATS.items() if not one.each))
LONGEST_NAME = 80  # characters of an object's name


@dataclass(frozen=True)
class Object:
    """An object as the user calls it.

    Args:
        name: for people.
        colour: ``#rrggbb`` on the page.
    """

    name: str
    colour: str


class Project:
    """The masks of a video: painted ones, which nothing overwrites, and followed ones.

    ``given/000012.png`` is a mask that the user painted on frame 12, ``followed/000013.png`` one
    that the network made; both are indexed PNGs with the objects' ids. ``project.json`` has the
    objects, ``confidence.json`` how sure the network was. Every file is written beside and renamed,
    so that a killed server loses at most the stroke that was under way.

    Args:
        video: that the masks are of.
        folder: of the project; made with the first mask.

    Raises:
        UserError: the folder is of another video, or cannot be read.
    """

    def __init__(self, video: Video, folder: Path) -> None:
        self.video, self.folder = video, folder
        self._lock = RLock()
        self._palette = davis_palette()
        self.objects: dict[int, Object] = {}
        self.confidence: dict[int, dict[int, float]] = {}
        self._masks: dict[str, set[int]] = {GIVEN: set(), FOLLOWED: set()}
        if folder.is_dir() and content(folder):
            self._read()

    def _read(self) -> None:
        try:
            facts = json.loads((self.folder / "project.json").read_text())
            size = tuple(facts["size"])
            self.objects = {int(k): Object(**one) for k, one in facts["objects"].items()}
            sure = self.folder / "confidence.json"
            found = json.loads(sure.read_text()) if sure.exists() else {}
            self.confidence = {
                int(index): {int(one): float(value) for one, value in row.items()}
                for index, row in found.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.folder} is no project of s2svos studio, or damaged ({error})",
                "name another --project, or move it away",
            ) from error
        if size != (self.video.width, self.video.height):
            raise UserError(
                f"{self.folder} is of a video of {size[0]}x{size[1]}, not "
                f"{self.video.width}x{self.video.height}",
                "name another --project",
            )
        for kind, indices in self._masks.items():
            indices |= {int(one.stem) for one in (self.folder / kind).glob("[0-9]*.png")}

    @property
    def given(self) -> list[int]:
        """Frames that were painted, rising."""
        with self._lock:
            return sorted(self._masks[GIVEN])

    @property
    def followed(self) -> list[int]:
        """Frames that were followed and not painted, rising."""
        with self._lock:
            return sorted(self._masks[FOLLOWED] - self._masks[GIVEN])

    def mask(self, index: int) -> Labels | None:
        """Return a frame's mask, uint8 [H, W]: the painted one, else the followed one, or None.

        Raises:
            UserError: it cannot be read.
        """
        with self._lock:
            kind = next((k for k, indices in self._masks.items() if index in indices), None)
        if kind is None:
            return None
        path = self._path(kind, index)
        try:
            ids, _ = read_ids(path)
        except (*BROKEN, NoIdsError) as error:
            raise UserError(f"{path} cannot be read as a mask", "move it away") from error
        if ids.shape != (self.video.height, self.video.width):
            raise UserError(f"{path} has another size than the video", "move it away")
        return ids

    def give(self, index: int, labels: Labels) -> None:
        """Keep what was painted on a frame; without an object the frame is no longer painted.

        Args:
            index: of the frame.
            labels: uint8 [H, W].

        Raises:
            UserError: it cannot be written.
        """
        with self._lock:
            if not labels.any():
                self._masks[GIVEN].discard(index)
                self._path(GIVEN, index).unlink(missing_ok=True)
                return
            for one in object_ids(labels).tolist():
                self.objects.setdefault(int(one), Object(f"object {one}", self._colour(int(one))))
            self._write(GIVEN, index, labels)
            self._write_objects()

    def follow(self, index: int, labels: Labels, confidence: Mapping[int, float]) -> None:
        """Keep what was followed on a frame, unless it was painted.

        Raises:
            UserError: it cannot be written.
        """
        with self._lock:
            if index not in self._masks[GIVEN]:
                self._write(FOLLOWED, index, labels)
                self.confidence[index] = {one: round(sure, 3) for one, sure in confidence.items()}

    def save_confidence(self) -> None:
        """Write ``confidence.json``; after a stretch was followed.

        Raises:
            UserError: it cannot be written.
        """
        with self._lock, disk_errors(self.folder):
            if self.folder.exists():
                text = json.dumps(self.confidence)
                write_atomically(self.folder / "confidence.json", text.encode())

    def name(self, one: int, name: str) -> None:
        """Name an object, which may be one that is yet to be painted.

        Raises:
            UserError: the id or the name cannot be, or nothing can be written.
        """
        name = name.strip()
        if not 1 <= one <= 255 or not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UserError(
                f"Object {one} cannot have that name", f"take up to {LONGEST_NAME} characters"
            )
        with self._lock:
            self.objects[one] = Object(name, self._colour(one))
            self._write_objects()

    def remove(self, one: int) -> None:
        """Take an object out of the list and of all painted masks.

        Raises:
            UserError: a mask cannot be read or written.
        """
        with self._lock:
            self.objects.pop(one, None)
            for index in self.given:
                labels = self.mask(index)
                if labels is not None and (labels == one).any():
                    self.give(index, np.where(labels == one, 0, labels).astype(np.uint8))
            self._write_objects()

    def facts(self) -> dict[str, Any]:
        """Return what the page needs to know, as JSON types."""
        with self._lock:
            return {
                "video": self.video.path.name,
                "width": self.video.width,
                "height": self.video.height,
                "rate": float(self.video.rate),
                "count": self.video.count,
                "objects": [
                    {"id": one, "name": found.name, "colour": found.colour}
                    for one, found in sorted(self.objects.items())
                ],
                "given": self.given,
                "followed": self.followed,
                "confidence": self.confidence,
                "command": self.command(),
                "formats": EXPORTS,
            }

    def export(self, name: str, folder: Path) -> None:
        """Write the masks of all frames that have one into a file of a folder.

        Args:
            name: of the file, one of :data:`EXPORTS`.
            folder: that exists.

        Raises:
            UserError: there is no such format, there are no masks, or it cannot be written.
        """
        if name not in EXPORTS:
            raise UserError(f"There is no format {name!r}.")
        if name != MASKS:
            convert(read_result(self.folder), [name], folder, video=self.video.path)
            return
        with disk_errors(folder):
            self._write_zip(folder / name)

    def _write_zip(self, path: Path) -> None:
        """Write the masks as ``masks/00000.png`` ..."""
        with self._lock, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for index in sorted(self._masks[GIVEN] | self._masks[FOLLOWED]):
                kind = GIVEN if index in self._masks[GIVEN] else FOLLOWED
                archive.write(self._path(kind, index), f"masks/{frame_name(index)}.png")

    def command(self) -> str:
        """Return the command that follows the painted masks without the page."""
        if not self.given:
            return ""
        words = ["s2svos", "infer", str(self.video.path)]
        for index in self.given:
            words += ["--mask", f"{index}={self._path(GIVEN, index)}"]
        return shlex.join([*words, *(["--backwards"] if self.given[0] else [])])

    def _write(self, kind: str, index: int, labels: Labels) -> None:
        path = self._path(kind, index)
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "project.json").exists():
                self._write_objects()
            write_mask(path, labels, self._palette)
        self._masks[kind].add(index)

    def _write_objects(self) -> None:
        facts = {
            "video": self.video.path.name,
            "size": [self.video.width, self.video.height],
            "objects": {one: vars(found) for one, found in sorted(self.objects.items())},
        }
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(facts, indent=1, ensure_ascii=False)
            write_atomically(self.folder / "project.json", text.encode())

    def _path(self, kind: str, index: int) -> Path:
        return self.folder / kind / f"{index:06d}.png"

    def _colour(self, one: int) -> str:
        red, green, blue = overlay_colours(self._palette)[one, 0].tolist()
        return f"#{red:02x}{green:02x}{blue:02x}"


def default_folder(video: Path) -> Path:
    """Return the folder of a video's project: beside it."""
    path = video if video.name else video.resolve()
    return path.with_name(f"{path.name}.studio")
