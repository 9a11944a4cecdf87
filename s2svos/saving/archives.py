"""Zips of a file a frame, as annotation programs and trainers take them in, and CVAT's XML."""

from __future__ import annotations

import io
import json
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos.saving.coco import spool
from s2svos.saving.frame import SavedFrame, SavedVideo, settle
from s2svos.saving.outlines import box, objects_of, polygon
from s2svos.video.masks import mask_png
from s2svos_engines.arrays import Frame

_QUALITY = 95  # of JPEGs


class Archive(ABC):
    """A zip that has its name once it is whole; subclasses add files for each frame.

    Args:
        path: of the zip.
        video: that the masks are of.
    """

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self.video = video
        self.names: list[str] = []
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._zip = zipfile.ZipFile(self._part, "w", zipfile.ZIP_STORED)

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self.names.append(shown.name)
        self.add_frame(shown)

    @abstractmethod
    def add_frame(self, shown: SavedFrame) -> None:
        """Add the files of a frame."""

    def add_lists(self) -> None:  # noqa: B027
        """Add the files that are of all frames, if there are any."""

    def add(self, name: str, data: bytes | str) -> None:
        """Add a file."""
        self._zip.writestr(name, data)

    def add_picture(self, name: str, frame: Frame) -> None:
        """Add a frame as JPEG."""
        self.add(name, _encoded(frame, "JPEG"))

    def close(self, *, keep: bool) -> None:
        """Finish the zip, or remove it."""
        try:
            if keep:
                self.add_lists()
        finally:
            self._zip.close()
        settle(self._part, self._path, keep=keep)


def _encoded(picture: NDArray[np.uint8], kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind, quality=_QUALITY)
    return data.getvalue()


class Cutouts(Archive):
    """``cutouts.zip``: ``ID/FRAME.png``, each object cut out, RGBA, as large as its box."""

    def add_frame(self, shown: SavedFrame) -> None:
        """Add a picture for each object."""
        for one in objects_of(shown.ids):
            left, top, width, height = box(shown.ids, one)
            place = np.s_[top : top + height, left : left + width]
            cut = np.dstack([shown.frame[place], shown.alpha(one)[place]])
            self.add(f"{one}/{shown.name}.png", _encoded(cut, "PNG"))


class Davis(Archive):
    """``davis.zip``: ``JPEGImages``, ``Annotations`` and ``ImageSets`` as DAVIS 2017 has them."""

    def add_frame(self, shown: SavedFrame) -> None:
        """Add picture and mask."""
        name = f"480p/{self.video.path.stem}/{shown.name}"
        self.add_picture(f"JPEGImages/{name}.jpg", shown.frame)
        self.add(f"Annotations/{name}.png", mask_png(shown.ids, self.video.palette))

    def add_lists(self) -> None:
        """Add the list of videos."""
        for split in ("train", "val"):
            self.add(f"ImageSets/2017/{split}.txt", f"{self.video.path.stem}\n")


class LabelMe(Archive):
    """``labelme.zip``: for each frame a JPEG and a JSON with a polygon an object."""

    def add_frame(self, shown: SavedFrame) -> None:
        """Add picture and polygons."""
        shapes = [
            {
                "label": self.video.name(one),
                "points": outline.astype(float).tolist(),
                "group_id": one,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for one in objects_of(shown.ids)
            if (outline := polygon(shown.ids, one)) is not None
        ]
        facts: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{shown.name}.jpg",
            "imageData": None,
            "imageHeight": self.video.height,
            "imageWidth": self.video.width,
        }
        self.add_picture(f"{shown.name}.jpg", shown.frame)
        self.add(f"{shown.name}.json", json.dumps(facts, ensure_ascii=False))


class Yolo(Archive):
    """``yolo.zip``: ``images``, ``labels`` with polygons, and ``data.yaml`` for a trainer."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        super().__init__(path, video)
        self._classes = list(dict.fromkeys(map(video.name, video.objects)))

    def add_frame(self, shown: SavedFrame) -> None:
        """Add picture and polygons."""
        size = np.array([self.video.width, self.video.height], np.float64)
        lines = []
        for one in objects_of(shown.ids):
            if (outline := polygon(shown.ids, one)) is not None:
                numbers = " ".join(f"{value:.6g}" for value in (outline / size).ravel())
                lines.append(f"{self._classes.index(self.video.name(one))} {numbers}\n")
        self.add_picture(f"images/{shown.name}.jpg", shown.frame)
        self.add(f"labels/{shown.name}.txt", "".join(lines))

    def add_lists(self) -> None:
        """Add the names of the classes."""
        names = "".join(
            f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
            for number, name in enumerate(self._classes)
        )
        self.add("data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")


class Voc(Archive):
    """``voc.zip``: pictures, masks by object and by class, and boxes, as PASCAL VOC has them."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        super().__init__(path, video)
        self._classes = list(dict.fromkeys(map(video.name, video.objects)))

    def add_frame(self, shown: SavedFrame) -> None:
        """Add picture, masks and boxes."""
        of_class = np.zeros(256, np.uint8)
        for one in self.video.objects:
            of_class[one] = 1 + self._classes.index(self.video.name(one))
        palette = self.video.palette
        self.add_picture(f"JPEGImages/{shown.name}.jpg", shown.frame)
        self.add(f"SegmentationObject/{shown.name}.png", mask_png(shown.ids, palette))
        self.add(f"SegmentationClass/{shown.name}.png", mask_png(of_class[shown.ids], palette))
        self.add(f"Annotations/{shown.name}.xml", self._boxes(shown))

    def _boxes(self, shown: SavedFrame) -> str:
        objects = []
        for one in objects_of(shown.ids):
            left, top, width, height = box(shown.ids, one)
            sides = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
            corners = "".join(f"<{key}>{value}</{key}>" for key, value in sides.items())
            objects.append(
                f"<object><name>{escape(self.video.name(one))}</name><pose>Unspecified</pose>"
                "<truncated>0</truncated><difficult>0</difficult>"
                f"<bndbox>{corners}</bndbox></object>"
            )
        return (
            "<annotation><folder>JPEGImages</folder>"
            f"<filename>{escape(shown.name)}.jpg</filename>"
            f"<size><width>{self.video.width}</width><height>{self.video.height}</height>"
            f"<depth>3</depth></size><segmented>1</segmented>{''.join(objects)}</annotation>"
        )

    def add_lists(self) -> None:
        """Add the list of frames and the classes' colours."""
        names = "".join(f"{name}\n" for name in self.names)
        for kind in ("Main", "Segmentation"):
            self.add(f"ImageSets/{kind}/default.txt", names)
        colours = np.frombuffer(self.video.palette, np.uint8).reshape(256, 3).tolist()
        lines = [
            f"{name}:{','.join(map(str, colour))}::\n"
            for name, colour in zip(["background", *self._classes], colours, strict=False)
        ]
        self.add("labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(lines))


class Cvat:
    """``cvat.xml``: a track of polygons an object, as CVAT's format for videos has it."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._part.touch()
        self._video, self._frames = video, 0
        # By object, each in a file, until all are written one after the other.
        self._tracks: dict[int, TextIO] = {one: spool() for one in video.objects}
        self._last: dict[int, str] = {}  # points of objects that were there on the frame before

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        for one, track in self._tracks.items():
            outline = polygon(shown.ids, one)
            if outline is not None:
                self._last[one] = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline.astype(float))
                track.write(self._polygon(self._last[one], outside=0))
            elif one in self._last:  # it went
                track.write(self._polygon(self._last.pop(one), outside=1))
        self._frames += 1

    def _polygon(self, points: str, *, outside: int) -> str:
        return (
            f'<polygon frame="{self._frames}" outside="{outside}" occluded="0" keyframe="1" '
            f'points="{points}" z_order="0"></polygon>\n'
        )

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        if keep:
            with self._part.open("w", encoding="utf-8") as file:
                self._write(file)
        for track in self._tracks.values():
            track.close()
        settle(self._part, self._path, keep=keep)

    def _write(self, file: TextIO) -> None:
        names = dict.fromkeys(map(self._video.name, self._video.objects))
        labels = "".join(
            f"<label><name>{escape(name)}</name><attributes></attributes></label>" for name in names
        )
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>\n'
            f"<meta><task><name>{escape(self._video.path.stem)}</name><size>{self._frames}</size>"
            "<mode>interpolation</mode><overlap>0</overlap><start_frame>0</start_frame>"
            f"<stop_frame>{max(0, self._frames - 1)}</stop_frame><labels>{labels}</labels>"
            f"<original_size><width>{self._video.width}</width>"
            f"<height>{self._video.height}</height></original_size></task></meta>\n"
        )
        for number, (one, track) in enumerate(self._tracks.items()):
            file.write(
                f'<track id="{number}" label={quoteattr(self._video.name(one))} source="file">\n'
            )
            track.seek(0)
            file.writelines(track)
            file.write("</track>\n")
        file.write("</annotations>\n")
