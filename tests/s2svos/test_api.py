"""What a program does in a line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio_server import HEIGHT, WIDTH, pond

import s2svos
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, write_mask

FRAMES = 9


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    pond(folder / "v.mp4", FRAMES)
    write_mask(folder / "m.png", next(render(FRAMES, HEIGHT, WIDTH))[1], davis_palette())
    return folder


def test_infer_and_its_preview(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = s2svos.infer(
        inputs / "v.mp4", inputs / "m.png", tmp_path / "out", names={1: "koi"}, save=["tracks.csv"]
    )
    assert summary.frames == FRAMES
    assert summary.objects[0].name == "koi"
    assert (tmp_path / "out" / "tracks.csv").is_file()
    assert capsys.readouterr().err == ""  # a short run leaves no line in a log
    preview = summary._repr_png_()
    assert preview is not None
    assert Image.open(io.BytesIO(preview)).size == (4 * 320, 180)


def test_read(inputs: Path) -> None:
    frames = list(s2svos.read(inputs / "v.mp4", start=2, end=5))
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 3


def test_supervisions_detections(inputs: Path) -> None:
    supervision = pytest.importorskip("supervision")
    clip = list(render(2, HEIGHT, WIDTH))
    stream = s2svos.load().open(*clip[0])
    labels = stream.step(clip[1][0])
    found = s2svos.to_supervision(labels, stream.confidence)
    assert found.tracker_id.tolist() == [int(i) for i in np.unique(labels) if i]
    for mask, box, one in zip(found.mask, found.xyxy, found.tracker_id, strict=True):
        np.testing.assert_array_equal(mask, labels == one)
        assert (
            mask[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1].sum() == mask.sum()
        )
    painted = supervision.MaskAnnotator().annotate(clip[1][0].copy(), found)
    assert (painted != clip[1][0]).any()
    assert len(s2svos.to_supervision(np.zeros((HEIGHT, WIDTH), np.uint8))) == 0
