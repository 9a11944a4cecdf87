from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import HEIGHT, WIDTH, cut, picture, remux, write_video

from s2svos.video.decoder import TruncatedVideo
from s2svos.video.reader import Video
from s2svos_engines.errors import UserError

CONTAINERS = [(".mp4", "libx264"), (".ts", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")]


def save(folder: Path, *names: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(picture(index)).resize(size).save(folder / name)
    return folder


def test_file_yields_every_frame_once_with_its_index(tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / "v.mp4", 23, rate=Fraction(30000, 1001)))
    frames = list(video)
    assert (video.width, video.height, video.count) == (WIDTH, HEIGHT, 23)
    assert video.rate == Fraction(30000, 1001)
    assert [name for name, _ in frames] == [f"{i:05d}" for i in range(23)]
    for index, (_, frame) in enumerate(frames):
        assert frame.dtype == np.uint8 and frame.flags.c_contiguous
        assert frame.shape == (HEIGHT, WIDTH, 3)
        red = frame[20, :, 0] > 128
        assert abs(int(np.flatnonzero(red)[0]) - (5 + index % 20)) <= 1
    assert len(list(video)) == 23  # again, from the beginning


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_whole_files_end_cleanly(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", 40, codec=codec)
    video = Video(path)
    assert len(list(video)) == 40
    assert video.count is not None and abs(video.count - 40) <= 1


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 0.99])
def test_cut_files_end_with_their_last_whole_frame(
    tmp_path: Path, suffix: str, codec: str, share: float
) -> None:
    path = write_video(tmp_path / f"v{suffix}", 40, codec=codec)
    whole = [frame for _, frame in Video(path)]
    names = []
    with pytest.raises(TruncatedVideo, match="last whole one") as caught:
        for index, (name, frame) in enumerate(Video(cut(path, share))):
            names.append(name)
            assert np.array_equal(frame, whole[index])
    # The last hundredth of an AVI is its index: no frame is lost with it.
    assert 10 < len(names) < (41 if suffix == ".avi" else 40)
    assert (caught.value.index, caught.value.name) == (len(names) - 1, names[-1])
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_cut_real_video(clips: Path, tmp_path: Path, suffix: str, share: float) -> None:
    path = remux(clips / "motorbike.mp4", tmp_path / f"v{suffix}")
    assert len(list(Video(path))) == 43
    names = []
    with pytest.raises(TruncatedVideo) as caught:
        for name, _ in Video(cut(path, share)):
            names.append(name)
    assert 0 < len(names) < 43 and names[-1] == caught.value.name


def test_end_before_the_cut_is_no_error(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "v.mp4", 40), 0.9)
    assert len(list(Video(path, end=10))) == 10


def test_start_and_end_keep_the_names_of_the_whole_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 12)
    whole = dict(Video(path))
    part = Video(path, start=3, end=6)
    assert part.count == 3
    assert [name for name, _ in part] == ["00003", "00004", "00005"]
    assert all(np.array_equal(frame, whole[name]) for name, frame in part)
    folder = save(tmp_path / "f", "a1.png", "a2.png", "a3.png")
    assert [name for name, _ in Video(folder, start=1, end=2)] == ["a2"]


def test_start_beyond_the_end(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer frames"):
        list(Video(write_video(tmp_path / "v.mp4", 5), start=5))
    with pytest.raises(UserError, match="2 frames"):
        Video(save(tmp_path / "f", "a.png", "b.png"), start=2)
    with pytest.raises(UserError, match="start < end"):
        Video(tmp_path / "f", start=1, end=1)


def test_rotation_is_applied(tmp_path: Path) -> None:
    upright = next(iter(Video(write_video(tmp_path / "u.mp4", 2))))[1]
    video = Video(write_video(tmp_path / "r.mp4", 2, rotation=90))
    _, turned = next(iter(video))
    assert (video.width, video.height) == (HEIGHT, WIDTH)
    assert np.array_equal(turned, np.rot90(upright))


def test_folder_in_natural_order(tmp_path: Path) -> None:
    folder = save(tmp_path / "f", "frame10.PNG", "frame2.png", "frame1.bmp")
    (folder / "notes.txt").write_text("ignored")
    (folder / "._frame1.png").write_bytes(b"ignored")
    video = Video(folder)
    assert [name for name, _ in video] == ["frame1", "frame2", "frame10"]
    assert (video.count, video.rate, video.width, video.height) == (3, 24, WIDTH, HEIGHT)
    assert np.array_equal(next(iter(video))[1], picture(2))


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        (tmp_path / "empty").mkdir()
        Video(tmp_path / "empty")
    mixed = save(tmp_path / "mixed", "a1.png", "a2.png")
    save(mixed, "a3.png", size=(32, 16))
    with pytest.raises(UserError, match=r"a3\.png is 32x16, but a1\.png is 64x48"):
        Video(mixed)
    with pytest.raises(UserError, match=r"both a\.jpg and a\.png"):
        Video(save(tmp_path / "twins", "a.png", "a.jpg"))
    broken = save(tmp_path / "broken", "a1.png", "a2.png")
    (broken / "a1.png").write_text("no picture")
    with pytest.raises(UserError, match=r"a1\.png cannot be read"):
        Video(broken)


def test_picture_that_breaks_off(tmp_path: Path) -> None:
    folder = save(tmp_path / "f", "a1.png", "a2.png")
    data = (folder / "a2.png").read_bytes()
    (folder / "a2.png").write_bytes(data[: len(data) // 2])
    names = []
    with pytest.raises(UserError, match=r"a2\.png cannot be read"):
        for name, _ in Video(folder):
            names.append(name)
    assert names == ["a1"]


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Video(tmp_path / "missing.mp4")
    for name in ("text.mp4", "text.txt", "empty.mkv"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "no video\n" * 200)
        with pytest.raises(UserError, match=r"cannot be read as a video|holds no video"):
            Video(tmp_path / name)


def test_sound_without_pictures(tmp_path: Path) -> None:
    import av

    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="holds no video"):
        Video(tmp_path / "sound.mp4")


def test_video_without_a_readable_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", 2, codec="mpeg2video")
    with pytest.raises(UserError, match=r"no frame|cannot be read|no video"):
        Video(cut(path, 0.1))


@pytest.mark.skipif(sys.platform == "win32", reason="no colon in a name there")
@pytest.mark.parametrize("name", ["12:30 walk.mp4", "http:x.mp4", "pipe:0.mp4"])
def test_a_colon_in_a_name_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_video(tmp_path / "v.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(Video(Path(name)))) == 3


def test_a_picture_that_states_a_giant_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "frames", "00000.png", "00001.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    with pytest.raises(UserError, match=r"00000\.png"):
        list(Video(folder))
