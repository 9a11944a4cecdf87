"""First masks from annotation programs: LabelMe's and COCO's JSON, with what objects are called."""

from __future__ import annotations

import base64
import binascii
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos.extras import needs
from s2svos.video.pictures import BROKEN
from s2svos_engines.arrays import Labels
from s2svos_engines.errors import UserError
from s2svos_engines.files import need_regular_file

_MOST = 255  # objects
_LARGEST = 1 << 28  # bytes of a file that is read
Place = NDArray[np.bool_]


class Annotations(NamedTuple):
    """The objects of a picture.

    Args:
        ids: uint8 [H, W]; later ones of the file lie over earlier ones.
        names: what they are called, by id.
        told: a sentence on what was read.
    """

    ids: Labels
    names: dict[int, str]
    told: str


def read_annotations(path: Path, size: tuple[int, int]) -> Annotations:
    """Read a JSON of LabelMe (polygons, boxes, circles, masks) or COCO (polygons, run lengths).

    Shapes of one ``group_id`` are one object, as are annotations of one ``track_id``. Of a COCO
    file with several pictures the first by its file's name is read.

    Args:
        path: of the JSON.
        size: height and width of the video.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no such file, of another size, or has no object or too many.
    """
    need_regular_file(path, "The mask")
    if path.stat().st_size > _LARGEST:
        raise UserError(f"The mask {path} is too large for one picture", "name another file")
    try:
        data = json.loads(path.read_text("utf-8-sig"))
        if "shapes" in data:
            return _labelme(path, data, size)
        if "annotations" in data and "images" in data:
            return _coco(path, data, size)
    except UserError:
        raise
    except (
        *(KeyError, IndexError, TypeError, AttributeError, RecursionError, binascii.Error),
        *(OverflowError, cv2.error, *BROKEN),
    ) as error:
        raise UserError(
            f"The mask {path} cannot be read ({type(error).__name__}: {error})", _KINDS
        ) from error
    raise UserError(f"The mask {path} is a JSON of neither LabelMe nor COCO", _KINDS)


_KINDS = "save the objects as LabelMe's or COCO's JSON, or as an indexed PNG"


def _labelme(path: Path, data: dict[str, Any], size: tuple[int, int]) -> Annotations:
    _need_size(path, (int(data["imageHeight"]), int(data["imageWidth"])), size)
    found = [
        (shape.get("group_id"), str(shape["label"]), _shape(shape, size))
        for shape in data["shapes"]
    ]
    return _merged(path, found, size)


def _shape(shape: dict[str, Any], size: tuple[int, int]) -> Place:
    kind = shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1 << 20:
        raise ValueError("points beyond the picture")
    drawn = np.zeros(size, np.uint8)
    corners = points.round().astype(np.int32)
    if kind == "polygon":
        cv2.fillPoly(drawn, [corners], 1)
    elif kind == "rectangle":
        cv2.rectangle(drawn, corners.min(0).tolist(), corners.max(0).tolist(), 1, cv2.FILLED)
    elif kind == "circle":
        radius = round(float(np.hypot(*(points[1] - points[0]))))
        cv2.circle(drawn, corners[0].tolist(), radius, 1, cv2.FILLED)
    elif kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as opened:
            own = np.array(opened.convert("1"))
        left, top = corners.min(0)
        place = drawn[top : top + own.shape[0], left : left + own.shape[1]]
        place[own[: place.shape[0], : place.shape[1]]] = 1
    else:
        raise ValueError(f"a shape of the kind {kind}, which has no area")
    return drawn > 0


def _coco(path: Path, data: dict[str, Any], size: tuple[int, int]) -> Annotations:
    image = min(data["images"], key=lambda one: str(one["file_name"]))
    _need_size(path, (int(image["height"]), int(image["width"])), size)
    names = {one["id"]: str(one["name"]) for one in data.get("categories", [])}
    found = [
        (
            one.get("track_id"),
            names.get(one.get("category_id"), "object"),
            _segmentation(one["segmentation"], size),
        )
        for one in data["annotations"]
        if one["image_id"] == image["id"]
    ]
    merged = _merged(path, found, size)
    others = len(data["images"]) - 1
    more = f" of {image['file_name']}, the first of {others + 1} pictures" if others else ""
    return merged._replace(told=f"{merged.told.removesuffix('.')}{more}.")


def _segmentation(segmentation: Any, size: tuple[int, int]) -> Place:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            return _run_lengths(counts, size)
        ends = np.cumsum(np.array(counts, np.int64))
        if ends[-1] != size[0] * size[1] or (np.diff(ends) < 0).any():
            raise ValueError("run lengths of another size")
        values = (np.arange(len(counts)) % 2).astype(np.bool_)
        return np.repeat(values, np.diff(ends, prepend=0)).reshape(size, order="F")
    drawn = np.zeros(size, np.uint8)
    for part in segmentation:
        points = np.array(part, np.float64).reshape(-1, 2)
        if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1 << 20:
            raise ValueError("points beyond the picture")
        cv2.fillPoly(drawn, [points.round().astype(np.int32)], 1)
    return drawn > 0


def _run_lengths(counts: str, size: tuple[int, int]) -> Place:
    with needs("coco"):
        from pycocotools import mask as coco
    if len(counts) > size[0] * size[1]:
        raise ValueError("run lengths of another size")
    found = np.asarray(coco.decode({"size": list(size), "counts": counts.encode()}))
    return found.reshape(size).astype(np.bool_)


def _merged(path: Path, found: list[tuple[Any, str, Place]], size: tuple[int, int]) -> Annotations:
    ids, names = np.zeros(size, np.uint8), dict[int, str]()
    known: dict[Any, int] = {}
    kept = {one for one, _, _ in found if isinstance(one, int) and 1 <= one <= _MOST}
    free = (one for one in range(1, _MOST + 1) if one not in kept)
    for key, name, place in found:
        if key in kept:
            one = key
        elif key is not None and (key, name) in known:
            one = known[key, name]
        else:
            if (one := next(free, 0)) == 0:
                raise UserError(f"The mask {path} has more than {_MOST} objects", _KINDS)
            known[key, name] = one
        ids[place] = one
        names[one] = name
    names = {one: name for one, name in sorted(names.items()) if (ids == one).any()}
    listed = ", ".join(f"{one} is {name}" for one, name in names.items())
    return Annotations(ids, names, f"The mask {path} is an annotation: object {listed}.")


def _need_size(path: Path, own: tuple[int, int], size: tuple[int, int]) -> None:
    if own != size:
        raise UserError(
            f"The mask {path} is of a picture of {own[1]}x{own[0]}, but the video is "
            f"{size[1]}x{size[0]}",
            "annotate the video's own first frame",
        )
