"""COCO's JSON, by frames, and that of YouTube-VIS, by objects; MOTS' text."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar, TextIO, cast

from s2svos.saving.frame import SavedFrame, SavedVideo, settle
from s2svos.saving.outlines import box, objects_of, run_lengths
from s2svos_engines.arrays import Labels


def spool() -> TextIO:
    """Return a text file that is gone once it is closed."""
    return cast("TextIO", tempfile.TemporaryFile("w+", encoding="utf-8"))


class _Text:
    """A text file that has its name once it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self.file = self._part.open("w", encoding="utf-8")

    def close(self, *, keep: bool) -> None:
        self.file.close()
        settle(self._part, self._path, keep=keep)


def _categories(video: SavedVideo) -> dict[str, int]:
    """Return a number for each name that objects have."""
    names = dict.fromkeys(map(video.name, video.objects))
    return {name: number for number, name in enumerate(names, 1)}


def _listed(categories: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": "object"}
        for name, number in categories.items()
    ]


class Coco:
    """``coco.json``: an annotation for each object of each frame, with its ``track_id``."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self._video, self._text = video, _Text(path)
        self._categories = _categories(video)
        self._names: list[str] = []
        self._annotations = 0
        self._text.file.write('{"annotations": [')

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self._names.append(shown.name)
        for one in objects_of(shown.ids):
            facts = {
                "id": self._annotations + 1,
                "image_id": len(self._names),
                "category_id": self._categories[self._video.name(one)],
                "track_id": one,
                **_measured(shown.ids, one),
                "iscrowd": 0,
            }
            self._text.file.write((",\n" if self._annotations else "\n") + json.dumps(facts))
            self._annotations += 1

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        size = {"width": self._video.width, "height": self._video.height}
        images = [
            {"id": number, "file_name": f"{name}.jpg", **size}
            for number, name in enumerate(self._names, 1)
        ]
        rest = {"images": images, "categories": _listed(self._categories)}
        self._text.file.write("\n], " + json.dumps(rest, ensure_ascii=False)[1:])
        self._text.close(keep=keep)


def _measured(ids: Labels, one: int) -> dict[str, Any]:
    return {
        "segmentation": run_lengths(ids, one),
        "area": int((ids == one).sum()),
        "bbox": list(box(ids, one)),
    }


class YouTubeVis:
    """``youtube-vis.json``: an annotation for each object, with a list over the frames."""

    _LISTS: ClassVar = {"segmentation": "segmentations", "area": "areas", "bbox": "bboxes"}

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self._video, self._text = video, _Text(path)
        self._names: list[str] = []
        # By frame in a file, since what is wanted by object may be large.
        self._spool = spool()

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self._names.append(shown.name)
        found = {one: _measured(shown.ids, one) for one in objects_of(shown.ids)}
        self._spool.write(json.dumps(found) + "\n")

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        if keep:
            self._write()
        self._spool.close()
        self._text.close(keep=keep)

    def _write(self) -> None:
        video, file = self._video, self._text.file
        name = video.path.stem
        size = {"width": video.width, "height": video.height}
        files = [f"{name}/{frame}.jpg" for frame in self._names]
        facts = {"id": 1, **size, "length": len(files), "file_names": files}
        categories = _categories(video)
        file.write(f'{{"videos": [{json.dumps(facts, ensure_ascii=False)}], "annotations": [')
        for number, one in enumerate(video.objects):
            head = {
                "id": number + 1,
                "video_id": 1,
                "category_id": categories[video.name(one)],
                "iscrowd": 0,
                **size,
            }
            file.write((",\n" if number else "\n") + json.dumps(head)[:-1])
            for key, plural in self._LISTS.items():
                file.write(f', "{plural}": [')
                self._write_list(file, str(one), key)
                file.write("]")
            file.write("}")
        listed = json.dumps(_listed(categories), ensure_ascii=False)
        file.write(f'\n], "categories": {listed}}}')

    def _write_list(self, file: TextIO, one: str, key: str) -> None:
        self._spool.seek(0)
        for number, line in enumerate(self._spool):
            found = json.loads(line).get(one)
            file.write((", " if number else "") + json.dumps(found[key] if found else None))


class Mots:
    """``mots.txt``: frame, id, class, height, width and run lengths, as MOTSChallenge has them.

    Every object is of class 1, and object 7 is 1007.
    """

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self._text, self._frame = _Text(path), 0

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self._frame += 1
        for one in objects_of(shown.ids):
            found = run_lengths(shown.ids, one)
            height, width = found["size"]
            line = f"{self._frame} {1000 + one} 1 {height} {width} {found['counts']}\n"
            self._text.file.write(line)

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        self._text.close(keep=keep)
