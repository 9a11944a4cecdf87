"""First masks from annotation programs and boxes; times for indices."""

from __future__ import annotations

import base64
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from video_files import write_video

from s2svos.commands.options import parse_moment
from s2svos.video.annotations import read_annotations
from s2svos.video.masks import mask_of_boxes, read_first_mask
from s2svos.video.reader import Video
from s2svos_engines.errors import UserError

SIZE = HEIGHT, WIDTH = 60, 80


def labelme(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": list(shapes)}


def shape(label: str, kind: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, **more}


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_labelmes_shapes(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(np.eye(6, dtype=bool)).save(png, "PNG")
    path = write(
        tmp_path / "m.json",
        labelme(
            shape("koi", "polygon", [[5, 5], [20, 5], [20, 15], [5, 15]], group_id=7),
            shape("koi", "rectangle", [[30, 15], [25, 5]], group_id=7),
            shape("leaf", "circle", [[60, 30], [60, 40]]),
            shape(
                "worm", "mask", [[40, 40], [45, 45]], mask=base64.b64encode(png.getvalue()).decode()
            ),
        ),
    )
    mask = read_first_mask(path, size=SIZE)
    assert mask.names == {1: "leaf", 2: "worm", 7: "koi"}
    assert (mask.ids[10, 10], mask.ids[10, 27], mask.ids[35, 60]) == (7, 7, 1)
    assert [int(mask.ids[40 + i, 40 + i]) for i in range(6)] == [2] * 6
    assert mask.ids[41, 40] == 0
    assert "7 is koi" in mask.doubts[0]


def test_cocos_segmentations(tmp_path: Path) -> None:
    place = np.zeros(SIZE, np.uint8)
    place[10:20, 30:50] = 1
    packed = coco_mask.encode(np.asfortranarray(place))
    column = place.ravel(order="F")
    runs = np.diff(np.flatnonzero(np.diff(column, prepend=2, append=2))).tolist()
    annotations = [
        {"image_id": 4, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 8]], "track_id": 9},
        {"image_id": 4, "category_id": 2,
         "segmentation": {"size": [*SIZE], "counts": packed["counts"].decode()}},
        {"image_id": 5, "category_id": 2, "segmentation": [[0, 0, 70, 0, 70, 50]]},
    ]  # fmt: skip
    data = {
        "images": [
            {"id": 5, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 4, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 1, "name": "koi"}, {"id": 2, "name": "turtle"}],
        "annotations": annotations,
    }
    found = read_annotations(write(tmp_path / "c.json", data), SIZE)
    assert found.names == {1: "turtle", 9: "koi"}
    np.testing.assert_array_equal(found.ids == 1, place > 0)
    assert "a.jpg, the first of 2 pictures" in found.told
    annotations[1]["segmentation"] = {"size": [*SIZE], "counts": runs}
    again = read_annotations(write(tmp_path / "c.json", data), SIZE)
    np.testing.assert_array_equal(again.ids, found.ids)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "neither LabelMe nor COCO"),
        ({}, "neither LabelMe nor COCO"),
        ({**labelme(), "imageHeight": 61}, "picture of 80x61"),
        (labelme(), "is empty"),
        (labelme(shape("x", "line", [[1, 1], [2, 2]])), "no area"),
        (labelme(shape("x", "polygon", [[1, 1], [1e300, 2], [3, 3]])), "beyond the picture"),
        (labelme(shape("x", "mask", [[1, 1], [2, 2]], mask="no base64")), "cannot be read"),
        ({"images": [], "annotations": []}, "cannot be read"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_first_mask(write(tmp_path / "m.json", data), size=SIZE)
    with pytest.raises(UserError, match="does not exist"):
        read_first_mask(tmp_path / "gone.json", size=SIZE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["shapes", "label", "points", "shape_type", "images", "annotations", "segmentation",
             "counts", "id", "image_id", "file_name", "height", "width", "imageHeight"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON, JSON, JSON)
def test_damaged_ones_end_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, whole: Any, shapes: Any, part: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    image = {"id": 1, "file_name": "a", "height": HEIGHT, "width": WIDTH}
    annotation = {"image_id": 1, "segmentation": part}
    for data in (
        whole,
        labelme() | {"shapes": shapes},
        labelme(shape("a", "polygon", part)),
        {"images": [image], "annotations": [annotation]},
        {"images": [image], "annotations": [annotation | {"segmentation": {"counts": part}}]},
    ):
        try:
            found = read_annotations(write(path, data), SIZE)
        except UserError:
            continue
        assert found.ids.shape == SIZE


def test_boxes() -> None:
    mask = mask_of_boxes({1: (10, 10, 40, 30), 2: (15, 15, 5, 5), 3: (-5, -5, 10, 10)}, SIZE)
    assert mask.objects == (1, 2, 3)
    assert (mask.ids[16, 16], mask.ids[30, 30], mask.ids[0, 0]) == (2, 1, 3)
    with pytest.raises(UserError, match="object 4 lies beyond"):
        mask_of_boxes({4: (100, 0, 9, 9)}, SIZE)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0", 0), ("90", 90), ("01:30", Fraction(90)), ("1:02:03.5", Fraction(7447, 2)),
     ("90.25s", Fraction(361, 4))],
)  # fmt: skip
def test_moments(text: str, wanted: int | Fraction) -> None:
    found = parse_moment(text, option="--start")
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize("text", ["-1", "1:99", "x", "1.5", "99999999999", "", "1:2:3:4", "nan"])
def test_moments_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_moment(text, option="--start")


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_the_frame_at_a_time(tmp_path: Path, suffix: str) -> None:
    video = Video(write_video(tmp_path / f"v{suffix}", 30))
    times = [time for _, _, time in video.timed()]
    for time in (Fraction(0), Fraction(1, 2), Fraction(51, 100), times[-1]):
        wanted = next(index for index, shown in enumerate(times) if shown >= time)
        assert video.index_at(time) == wanted
    with pytest.raises(UserError, match="ends before"):
        video.index_at(Fraction(2))


def test_the_picture_at_a_time(tmp_path: Path) -> None:
    for index in range(5):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    video = Video(tmp_path)
    assert video.index_at(Fraction(3, 24)) == 3
    with pytest.raises(UserError, match="ends before"):
        video.index_at(Fraction(5, 24))
