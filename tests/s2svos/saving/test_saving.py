"""What is saved is opened by the program or library that it is for."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from s2svos.sample.render import render
from s2svos.saving.formats import FORMATS, Savers, files_of
from s2svos.saving.frame import SavedFrame, SavedVideo
from s2svos.saving.movies import GREEN, refined
from s2svos.saving.outlines import polygon
from s2svos.video.masks import davis_palette
from s2svos_engines.errors import UserError

HEIGHT, WIDTH, FRAMES = 240, 426, 6
NAMES = {1: "koi", 2: "turtle & co"}


@pytest.fixture(scope="module")
def clip() -> list[SavedFrame]:
    """Return frames of the pond; the turtle, 2, is gone on the fourth."""
    shown = []
    for index, (frame, ids) in enumerate(render(FRAMES, HEIGHT, WIDTH)):
        ids = np.where(ids > 2, 0, ids).astype(np.uint8)
        if index == 3:
            ids[ids == 2] = 0
        soft = np.stack([blurred(ids == one) for one in (1, 2)])
        time = Fraction(index + (index > 4), 24)
        shown.append(SavedFrame(f"{index:05d}", frame, ids, time, soft, (1, 2), {1: 0.9}))
    return shown


def blurred(place: np.ndarray) -> np.ndarray:
    padded = np.pad(place.astype(np.uint16) * 255, 1)
    parts = [padded[1 + y : 1 + y + HEIGHT, 1 + x : 1 + x + WIDTH] for y, x in NEAR]
    return (sum(parts) // len(NEAR)).astype(np.uint8)


NEAR = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]


def video(path: Path) -> SavedVideo:
    return SavedVideo(
        path, WIDTH, HEIGHT, Fraction(24), Fraction(1, 240), Fraction(4, 3), (1, 2), NAMES,
        davis_palette(),
    )  # fmt: skip


@pytest.fixture
def saved(clip: list[SavedFrame], tmp_path: Path) -> Callable[..., Path]:
    def save(name: str, *, source: Path = Path("pond.mp4"), refine: bool = False) -> Path:
        savers = Savers([name], tmp_path, video(source), refine=refine)
        for shown in clip:
            savers.write(shown)
        savers.close(keep=True)
        assert not list(tmp_path.glob("*.part"))
        return tmp_path / files_of([name], (1, 2))[0]

    return save


def pictures(path: Path, form: str, codec: str | None = None) -> Iterator[np.ndarray]:
    """Yield the decoded frames; ``codec`` instead of FFmpeg's own decoder, which has no alpha."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create(codec, "r") if codec else stream.codec_context
        for packet in container.demux(stream):
            for frame in decoder.decode(packet if packet.size else None):
                yield frame.to_ndarray(format=form)


def test_alpha_composited_over_another_picture(
    saved: Callable[..., Path], clip: list[SavedFrame]
) -> None:
    found = list(pictures(saved("alpha.mov"), "rgba"))
    assert len(found) == FRAMES
    behind = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(float)
    for picture, shown in zip(found, clip, strict=True):
        share, alpha = shown.alpha()[:, :, None] / 255, picture[:, :, 3:] / 255
        wanted = shown.frame * share + behind * (1 - share)
        composited = picture[:, :, :3] * alpha + behind * (1 - alpha)
        assert np.abs(composited - wanted).max() <= 3


def test_alpha_in_webm(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    """VP9 halves the colours' resolution; alpha and brightness are nearly what they were."""
    found = list(pictures(saved("alpha.webm"), "rgba", "libvpx-vp9"))
    assert len(found) == FRAMES
    for picture, shown in zip(found, clip, strict=True):
        assert np.abs(picture[:, :, 3].astype(int) - shown.alpha()).mean() < 0.5
        solid = shown.alpha() == 255
        assert np.abs(picture[solid][:, 1].astype(int) - shown.frame[solid][:, 1]).mean() < 5


def test_layers_have_an_object_each(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    first = saved("layers.mov")
    for one, path in ((1, first), (2, first.with_name("layers-2.mov"))):
        for picture, shown in zip(pictures(path, "rgba"), clip, strict=True):
            assert np.abs(picture[:, :, 3].astype(int) - shown.alpha(one)).max() <= 3


def test_matte_and_green(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    for picture, shown in zip(pictures(saved("matte.mp4"), "gray"), clip, strict=True):
        assert np.abs(picture.astype(int) - shown.alpha()).mean() < 6
    for picture, shown in zip(pictures(saved("green.mp4"), "rgb24"), clip, strict=True):
        far = shown.alpha() == 0
        assert np.abs(picture[far].mean(0) - GREEN).max() < 6


def test_times_aspect_and_sound_are_the_sources(saved: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    with av.open(source, "w") as container:
        picture = container.add_stream("libx264", rate=24)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=48000)
        for _ in range(FRAMES):
            container.mux(picture.encode(av.VideoFrame(WIDTH, HEIGHT, "yuv420p")))
        container.mux(picture.encode(None))
        tone = np.sin(np.arange(48000) / 20).astype(np.float32)[None]
        for begin in range(0, 48000 - 1024, 1024):
            samples = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(tone[:, begin : begin + 1024]), "fltp", "mono"
            )
            samples.sample_rate, samples.pts = 48000, begin
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    with av.open(source) as container:
        wanted = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for name in ("alpha.mov", "green.mp4"):
        with av.open(saved(name, source=source)) as container:
            copied = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
        assert len(copied) > 5
        assert copied == wanted[: len(copied)]
        with av.open(tmp_path / name) as container:
            stream = container.streams.video[0]
            assert stream.sample_aspect_ratio == Fraction(4, 3)
            times = [frame.time for frame in container.decode(stream)]
            expected = [0, 1 / 24, 2 / 24, 3 / 24, 4 / 24, 6 / 24]
            assert times == pytest.approx(expected, abs=0.003)
            sound_end = max(
                float((packet.pts + packet.duration) * packet.time_base)
                for packet in av.open(tmp_path / name).demux(audio=0)
                if packet.size
            )
            assert sound_end == pytest.approx(7 / 24, abs=1 / 24)


def test_coco_by_its_own_library(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    data = COCO(str(saved("coco.json")))
    assert {one["name"] for one in data.loadCats(data.getCatIds())} == {*NAMES.values()}
    for number, shown in enumerate(clip, 1):
        found = np.zeros((HEIGHT, WIDTH), np.uint8)
        for annotation in data.loadAnns(data.getAnnIds(imgIds=number)):
            found[data.annToMask(annotation) > 0] = annotation["track_id"]
            place = shown.ids == annotation["track_id"]
            left, top, width, height = annotation["bbox"]
            assert place[top : top + height, left : left + width].sum() == place.sum()
            assert annotation["area"] == place.sum()
        np.testing.assert_array_equal(found, shown.ids)


def test_youtube_vis_and_mots(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    data = json.loads(saved("youtube-vis.json").read_text())
    assert data["videos"][0]["length"] == FRAMES
    for annotation, one in zip(data["annotations"], (1, 2), strict=True):
        for encoded, area, shown in zip(
            annotation["segmentations"], annotation["areas"], clip, strict=True
        ):
            place = shown.ids == one
            assert (encoded is None) == (not place.any()) == (area is None)
            if encoded:
                np.testing.assert_array_equal(coco_mask.decode(encoded), place)
    assert data["annotations"][1]["segmentations"][3] is None
    for line in saved("mots.txt").read_text().splitlines():
        frame, one, kind, height, width, counts = line.split(" ")
        found = coco_mask.decode({"size": [int(height), int(width)], "counts": counts})
        assert kind == "1"
        np.testing.assert_array_equal(found, clip[int(frame) - 1].ids == int(one) - 1000)


@pytest.mark.parametrize("kind", ["yolo", "labelme", "voc"])
def test_polygons_and_boxes_by_supervision(
    saved: Callable[..., Path], clip: list[SavedFrame], tmp_path: Path, kind: str
) -> None:
    supervision = pytest.importorskip("supervision")
    with zipfile.ZipFile(saved(f"{kind}.zip")) as archive:
        archive.extractall(tmp_path / kind)
    folder = tmp_path / kind
    if kind == "yolo":
        data = supervision.DetectionDataset.from_yolo(
            images_directory_path=str(folder / "images"),
            annotations_directory_path=str(folder / "labels"),
            data_yaml_path=str(folder / "data.yaml"),
            force_masks=True,
        )
    elif kind == "labelme":
        if not hasattr(supervision.DetectionDataset, "from_labelme"):
            pytest.skip("this supervision does not read LabelMe's files")
        data = supervision.DetectionDataset.from_labelme(
            images_directory_path=str(folder), annotations_directory_path=str(folder),
            force_masks=True,
        )  # fmt: skip
    else:
        data = supervision.DetectionDataset.from_pascal_voc(
            images_directory_path=str(folder / "JPEGImages"),
            annotations_directory_path=str(folder / "Annotations"),
        )
    assert len(data) == FRAMES
    assert set(data.classes) == {*NAMES.values()}
    for path, picture, found in data:
        shown = clip[int(Path(path).stem)]
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert len(found) == len(np.unique(shown.ids)) - 1
        for row in range(len(found)):
            name = data.classes[found.class_id[row]]
            place = shown.ids == next(one for one, known in NAMES.items() if known == name)
            if kind == "voc":
                left, top, right, bottom = found.xyxy[row].astype(int)
                assert place[top : bottom + 1, left : right + 1].sum() == place.sum()
            else:
                both, either = found.mask[row] & place, found.mask[row] | place
                assert both.sum() > 0.9 * either.sum()


def test_a_polygon_has_holes_and_parts() -> None:
    import cv2

    ids = np.zeros((60, 80), np.uint8)
    ids[5:30, 5:40], ids[12:20, 15:30], ids[40:55, 50:70] = 3, 0, 3
    outline = polygon(ids, 3)
    assert outline is not None
    drawn = np.zeros_like(ids)
    cv2.fillPoly(drawn, [outline], 3)
    assert (drawn != ids).sum() <= 2 * (15 + 8) + 60  # the hole's border, and the lines
    assert not drawn[14:18, 17:28].any()
    assert polygon(ids, 4) is None


def test_voc_masks_davis_and_cutouts(
    saved: Callable[..., Path], clip: list[SavedFrame], tmp_path: Path
) -> None:
    from s2svos.data.layouts import davis

    with zipfile.ZipFile(saved("voc.zip")) as archive:
        for shown in clip:
            name = f"SegmentationObject/{shown.name}.png"
            ids = np.array(Image.open(io.BytesIO(archive.read(name))))
            np.testing.assert_array_equal(ids, shown.ids)
        assert archive.read("labelmap.txt").decode().splitlines()[2].startswith("koi:")
    with zipfile.ZipFile(saved("davis.zip")) as archive:
        archive.extractall(tmp_path / "davis")
    (files,) = davis(tmp_path / "davis", year=2017, split="val")
    assert files.name == "pond"
    assert len(files.frames) == FRAMES
    with zipfile.ZipFile(saved("cutouts.zip")) as archive:
        cut = Image.open(io.BytesIO(archive.read("2/00000.png")))
        assert cut.mode == "RGBA"
        assert f"2/{clip[3].name}.png" not in archive.namelist()


def test_cvat_tracks(saved: Callable[..., Path], clip: list[SavedFrame]) -> None:
    import xml.etree.ElementTree as ET

    import cv2

    root = ET.parse(saved("cvat.xml")).getroot()
    tracks = root.findall("track")
    assert [track.get("label") for track in tracks] == [*NAMES.values()]
    for track, one in zip(tracks, NAMES, strict=True):
        outside = {int(p.get("frame", "")): p.get("outside") for p in track}
        assert outside == {i: "1" if (i, one) == (3, 2) else "0" for i in range(FRAMES)}
        points = track[0].get("points", "")
        corners = np.array([pair.split(",") for pair in points.split(";")], float)
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(drawn, [corners.astype(np.int32)], 1)
        place = clip[0].ids == one
        assert ((drawn > 0) & place).sum() > 0.9 * ((drawn > 0) | place).sum()


def test_cvat_and_voc_by_datumaro(saved: Callable[..., Path], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro, a large package, is not there")
    (tmp_path / "cvat").mkdir()
    saved("cvat.xml").rename(tmp_path / "cvat" / "annotations.xml")
    found = datumaro.Dataset.import_from(str(tmp_path / "cvat"), "cvat")
    assert sum(len(item.annotations) for item in found) == 2 * FRAMES  # one is outside
    with zipfile.ZipFile(saved("voc.zip")) as archive:
        archive.extractall(tmp_path / "voc")
    found = datumaro.Dataset.import_from(str(tmp_path / "voc"), "voc_instance_segmentation")
    assert len(found) == FRAMES


@pytest.mark.parametrize("name", ["tracks.csv", "tracks.parquet"])
def test_tracks(saved: Callable[..., Path], clip: list[SavedFrame], name: str) -> None:
    path = saved(name)
    if name.endswith(".csv"):
        from pyarrow import csv

        table = csv.read_csv(path)
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
    rows = table.to_pylist()
    assert len(rows) == 2 * FRAMES - 1
    for row in rows:
        shown = clip[int(row["frame"])]
        place = np.nonzero(shown.ids == row["id"])
        assert row["name"] == NAMES[row["id"]]
        assert row["area"] == len(place[0])
        assert (row["left"], row["top"]) == (place[1].min(), place[0].min())
        assert row["centre_x"] == pytest.approx(place[1].mean(), abs=0.01)
        assert row["time"] == pytest.approx(float(shown.time), abs=1e-5)
        assert row["confidence"] == (0.9 if row["id"] == 1 else None)


def test_soft_edges_and_refined_ones(clip: list[SavedFrame]) -> None:
    alpha = clip[0].alpha()
    assert len(np.unique(alpha)) > 4
    assert set(np.unique(SavedFrame("0", clip[0].frame, clip[0].ids, Fraction(0)).alpha())) == {
        0,
        255,
    }
    hard = np.where(clip[0].ids > 0, 255, 0).astype(np.uint8)
    sharper = refined(hard, clip[0].frame)
    assert np.abs(sharper.astype(int) - hard).mean() < 25
    assert len(np.unique(sharper)) > 50


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, clip: list[SavedFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(FORMATS)
    savers = Savers(names, tmp_path, video(Path("pond.mp4")))
    savers.write(clip[0])
    savers.close(keep=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "tracks.csv.part").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        Savers(names, tmp_path, video(Path("pond.mp4")))
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.csv.part"]
