from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import picture

from s2svos.video.masks import davis_palette
from s2svos.video.overlay import overlay_colours, paint
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter

GREY = np.full((40, 50, 3), 100, np.uint8)


def test_paint_inside_contour_and_outside() -> None:
    ids = np.zeros((40, 50), np.uint8)
    ids[10:30, 10:30], ids[10:30, 30:45] = 1, 255
    painted = paint(GREY, ids, davis_palette())
    assert painted.dtype == np.uint8 and (GREY == 100).all()
    far = np.ones_like(ids)
    far[9:31, 9:46] = 0
    assert (painted[far > 0] == 100).all()
    assert painted[9, 20].tolist() == painted[30, 45].tolist() == [255, 255, 255]
    assert painted[20, 20].tolist() == [178, 50, 50]
    one, last = (255, 0, 0), (255, 0, 0)
    for y, x, colour in ((10, 20, one), (11, 20, one), (20, 29, one), (20, 31, last)):
        assert tuple(painted[y, x]) == colour
    assert tuple(painted[12, 20]) != one  # two pixels wide, no more


def test_contour_stays_off_the_border_of_the_picture() -> None:
    ids = np.zeros((40, 50), np.uint8)
    ids[:20, :] = 2
    painted = paint(GREY, ids, davis_palette())
    assert painted[0, 25].tolist() == [50, 178, 50]
    assert painted[19, 25].tolist() == [0, 255, 0]
    assert painted[20, 25].tolist() == [255, 255, 255]
    assert painted[21, 25].tolist() == [100, 100, 100]


def test_nothing_to_paint() -> None:
    painted = paint(GREY, np.zeros((40, 50), np.uint8), davis_palette())
    assert np.array_equal(painted, GREY) and painted is not GREY


def test_black_palettes_become_visible() -> None:
    greys = bytes(value for value in range(256) for _ in range(3))
    colours = overlay_colours(greys)
    assert colours[1, 0].tolist() == [255, 0, 0]
    assert colours[200, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_video_of_frames(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "overlay.mp4"
    with VideoWriter(path, width=width, height=height, rate=Fraction(30000, 1001)) as writer:
        for index in range(12):
            writer.write(picture(index, height, width))
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.mp4"]
    video = Video(path)
    frames = [frame for _, frame in video]
    assert (len(frames), video.rate) == (12, Fraction(30000, 1001))
    assert (video.width, video.height) == (64, 48)
    difference = np.abs(frames[5][:height, :width].astype(int) - picture(5, height, width))
    assert difference[..., :2].mean() < 12
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_stopped_video_is_finished_or_deleted(tmp_path: Path) -> None:
    for keep, frames in ((True, 5), (False, 5), (True, 0)):
        path = tmp_path / f"{keep}{frames}.mp4"
        writer = VideoWriter(path, width=64, height=48, rate=Fraction(24))
        for index in range(frames):
            writer.write(picture(index))
        writer.close(keep=keep)
        writer.close(keep=keep)
        assert path.exists() == (keep and frames > 0)
        if path.exists():
            assert len(list(Video(path))) == frames
    with (
        pytest.raises(RuntimeError),
        VideoWriter(tmp_path / "e.mp4", width=64, height=48, rate=Fraction(24)) as writer,
    ):
        writer.write(picture(0))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["True5.mp4"]


def test_folder_that_is_missing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "no" / "o.mp4", width=64, height=48, rate=Fraction(24))
    with pytest.raises(OSError):
        for index in range(60):
            writer.write(picture(index))
        writer.close(keep=True)
    writer.close(keep=False)
