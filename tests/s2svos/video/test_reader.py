from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import ExifTags, Image
from video_files import HEIGHT, WIDTH, cut, picture, remux, write_video

from s2svos.video.decoder import Clock, TruncatedVideo
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter
from s2svos_engines.arrays import Frame
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


def with_matrix(source: Path, target: Path, *elements: float) -> Path:
    """Copy an MP4 with another a, b, c and d of its display matrix, as its track header has it."""
    data = bytearray(source.read_bytes())
    at = data.find(b"tkhd") + 44
    a, b, c, d = (round(one * 65536) for one in elements)
    assert struct.unpack(">9i", data[at : at + 36])[8] == 1 << 30
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("elements", "shown"),
    [
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((0, -1, -1, 0), lambda p: p.transpose(1, 0, 2)[::-1, ::-1]),
    ],
    ids=["mirror", "upside-down", "transpose", "90", "180", "270", "transverse"],
)
def test_a_display_matrix_is_followed(
    tmp_path: Path, elements: tuple[float, ...], shown: Callable[[Frame], Frame]
) -> None:
    source = write_video(tmp_path / "v.mp4", 2)
    plain = next(iter(Video(source)))[1]
    video = Video(with_matrix(source, tmp_path / "m.mp4", *elements))
    picture_shown = next(iter(video))[1]
    expected = shown(plain)
    assert np.array_equal(picture_shown, expected)
    assert (video.height, video.width) == expected.shape[:2]


def test_an_odd_angle_turns_within_the_frame(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", 2)
    cosine, sine = np.cos(np.radians(30)), np.sin(np.radians(30))
    turned = next(iter(Video(with_matrix(source, tmp_path / "m.mp4", cosine, sine, -sine, cosine))))
    red = turned[1][..., 0] > 150
    y, x = (axis.mean() for axis in np.nonzero(red))
    # The square's middle, (14.5, 19.5), about that of the picture, (31.5, 23.5), clockwise.
    assert x == pytest.approx(31.5 - 17 * cosine + 4 * sine, abs=1)
    assert y == pytest.approx(23.5 - 17 * sine - 4 * cosine, abs=1)
    assert turned[1].shape == (HEIGHT, WIDTH, 3)


def test_pictures_are_turned_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored a quarter turn anticlockwise
    (tmp_path / "f").mkdir()
    for index in range(2):
        stored = Image.fromarray(np.rot90(picture(index)).copy())
        stored.save(tmp_path / "f" / f"{index}.jpg", exif=exif, quality=98)
    for path in (tmp_path / "f", tmp_path / "f" / "0.jpg"):
        video = Video(path)
        assert (video.width, video.height) == (WIDTH, HEIGHT)
        assert np.abs(next(iter(video))[1].astype(int) - picture(0)).mean() < 20


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    grey = picture(0)[..., 2].astype(np.uint16)
    (tmp_path / "f").mkdir()
    Image.fromarray(grey * 257 * 2).save(tmp_path / "f" / "0.png")
    Image.fromarray((grey * 257 * 2).astype(np.int32)).save(tmp_path / "f" / "1.tif")
    Image.fromarray(np.float32(grey) * 2 / 255).save(tmp_path / "f" / "2.tif")
    video = Video(tmp_path / "f")
    for _, frame in video:
        assert np.array_equal(frame, np.repeat(np.uint8(grey * 2)[..., None], 3, 2))
    assert video.doubts == []
    (tmp_path / "dark").mkdir()
    Image.fromarray(grey * 16).save(tmp_path / "dark" / "0.png")
    (doubt,) = Video(tmp_path / "dark").doubts
    assert "nearly black" in doubt
    Image.fromarray(np.float32(grey)).save(tmp_path / "f" / "3.tif")
    with pytest.raises(UserError, match=r"3\.tif cannot be read"):
        list(Video(tmp_path / "f"))


def test_a_mask_beside_the_frames_is_none(tmp_path: Path) -> None:
    folder = save(tmp_path / "f", "00000.jpg", "00001.jpg", "00002.jpg", "first.png")
    with pytest.raises(UserError, match="holds a picture first, whose name is not like"):
        Video(folder)
    video = Video(folder, beside=[folder / ".." / "f" / "first.png"])
    assert [name for name, _ in video] == ["00000", "00001", "00002"]
    save(tmp_path / "g", "b.png", "a.png", "1.png")
    assert [name for name, _ in Video(tmp_path / "g")] == ["1", "a", "b"]


def test_times_of_frames(tmp_path: Path) -> None:
    times = [Fraction(t, 100) for t in (0, 4, 8, 50, 51, 90)]
    path, aspect = tmp_path / "v.mkv", Fraction(16, 11)
    tick = Fraction(1, 1000)
    with VideoWriter(
        tmp_path / "w.mp4", width=WIDTH, height=HEIGHT, rate=Fraction(25), time_base=tick,
        pixel_aspect=aspect,
    ) as writer:  # fmt: skip
        for index, time in enumerate(times):
            writer.write(picture(index), at=7 + time)
    for file in (tmp_path / "w.mp4", remux(tmp_path / "w.mp4", path)):
        video = Video(file)
        assert [time for _, _, time in video.timed()] == times
        assert video.pixel_aspect == aspect
        assert [time for _, _, time in Video(file, start=3).timed()] == times[3:]


def test_a_clock_that_goes_back_or_leaps() -> None:
    clock = Clock(Fraction(10))
    stamps = [5, 6, None, 6, 1, 2, 9000, 9001]
    times = [clock(None if stamp is None else Fraction(stamp)) for stamp in stamps]
    tenth = Fraction(1, 10)
    assert times == [0, 1, 1 + tenth, 1 + 2 * tenth, 1 + 3 * tenth, 2 + 3 * tenth, 2 + 4 * tenth,
                     3 + 4 * tenth]  # fmt: skip


@pytest.mark.parametrize("order", [("small", "large"), ("large", "small")])
def test_the_track_that_players_show(tmp_path: Path, order: tuple[str, ...]) -> None:
    sizes = {"small": (48, 64), "large": (96, 128)}
    for default in (None, *order):
        path = tmp_path / f"{default}.mkv"
        with av.open(path, "w") as container:
            streams = []
            for name in order:
                stream = container.add_stream("libx264", rate=25)
                assert isinstance(stream, av.VideoStream)
                (stream.height, stream.width), stream.pix_fmt = sizes[name], "yuv420p"
                stream.disposition = Disposition.default if name == default else Disposition(0)
                streams.append(stream)
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(0, stream.height, stream.width))
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        assert Video(path).height == sizes[default or "large"][0]


@pytest.mark.parametrize("how", ["zeros", "junk"])
def test_a_damaged_packet_costs_its_frames_alone(tmp_path: Path, how: str) -> None:
    path = write_video(tmp_path / "v.mp4", 40)
    with av.open(path) as container:
        packets = [(one.pos, one.size) for one in container.demux(video=0) if one.size]
    data = bytearray(path.read_bytes())
    at, size = packets[20]
    assert at is not None
    data[at : at + size] = bytes((i * 73 + 41) % 256 if how == "junk" else 0 for i in range(size))
    path.write_bytes(data)
    video = Video(path)
    assert len(list(video)) >= 36
    assert video.losses.packets <= 4
    if how == "zeros":
        assert video.losses.packets >= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="is a pipe, which can be read only once"):
        Video(pipe)
    with pytest.raises(UserError, match="is a pipe"):
        read_first_mask(pipe, size=(HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"],
)
def test_a_file_that_names_others_is_no_video(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "other.mp4", 3)
    for suffix in (".mp4", ".m3u8", ".ffconcat"):
        path = tmp_path / f"list{suffix}"
        path.write_text(text)
        with pytest.raises(UserError, match="cannot be read as a video"):
            Video(path)
