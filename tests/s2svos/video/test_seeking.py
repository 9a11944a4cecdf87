"""Frames far into a file, reached from a key frame, are those that decoding all of it gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import HEIGHT, WIDTH, picture

from s2svos.video import decoder
from s2svos.video.decoder import VideoFile
from s2svos.video.reader import Video
from s2svos.video.seeking import KeyFrame
from s2svos_engines.errors import UserError

FRAMES = 200
GROUP = {"g": "40", "keyint_min": "40", "sc_threshold": "0"}


def write(
    path: Path,
    codec: str = "libx264",
    *,
    skip: int = 0,
    times: Callable[[int], int] = lambda index: index,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Write a video in groups of 40 frames; ``skip`` of the first are before its time 0."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options={**GROUP, **options})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = Fraction(1, 100)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = 4 * times(index), Fraction(1, 100)
            mux(container, stream.encode(frame), skip)
        mux(container, stream.encode(None), skip)
    return path


def mux(container: av.container.OutputContainer, packets: list[av.Packet], skip: int) -> None:
    for packet in packets:
        assert packet.pts is not None and packet.dts is not None and packet.time_base
        shift = round(skip * 4 / 100 / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        container.mux(packet)


VIDEOS: dict[str, Callable[[Path], Path]] = {
    "B frames": lambda folder: write(folder / "v.mp4", bf="3"),
    "Matroska": lambda folder: write(folder / "v.mkv", bf="3"),
    "open groups": lambda folder: write(folder / "v.mp4", bf="3", **{"x264-params": "open-gop=1"}),
    "variable rate": lambda folder: write(
        folder / "v.mp4", bf="3", times=lambda index: index + index // 7 + index * index // 90
    ),
    "edit list": lambda folder: write(folder / "v.mp4", bf="3", skip=17),
    "VP9": lambda folder: write(folder / "v.webm", "libvpx-vp9", deadline="realtime"),
    "HEVC": lambda folder: write(
        folder / "v.mp4", "libx265", **{"x265-params": "keyint=40:open-gop=1:log-level=error"}
    ),
    "pictures": lambda folder: write(folder / "v.mov", "mjpeg", pixels="yuvj420p"),
    "transport": lambda folder: write(folder / "v.ts", bf="3"),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_seeking_gives_what_decoding_from_the_beginning_gives(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = VIDEOS[kind](tmp_path)
    monkeypatch.setattr(decoder, "_SEEK_FROM", 1)
    whole = list(VideoFile(path).frames())
    assert len(whole) == FRAMES - (17 if kind == "edit list" else 0)
    video = VideoFile(path)
    for start in (1, 39, 40, 41, 79, 85, 121, 163, len(whole) - 1):
        part = list(video.frames(start))
        assert len(part) == len(whole) - start
        for (name, frame, time), (known, expected, at) in zip(
            part[:9], whole[start : start + 9], strict=False
        ):
            assert (name, time) == (known, at)
            np.testing.assert_array_equal(frame, expected)


def test_only_frames_from_the_key_frame_on_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Video(write(tmp_path / "v.mp4", bf="3"))
    decoded: list[object] = []
    clean = decoder._without_damaged_end

    def counted(items):  # type: ignore[no-untyped-def]
        for item in clean(items):
            decoded.append(item)
            yield item

    monkeypatch.setattr(decoder, "_without_damaged_end", counted)
    name, _ = next(iter(video.part(165, None)))
    assert name == "00165"
    assert len([one for one in decoded if isinstance(one, av.VideoFrame)]) <= 8


def test_a_file_with_misleading_key_frames_is_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "v.mp4", bf="3")
    expected = next(VideoFile(path).frames(150))
    video = VideoFile(path)
    assert video._index is not None
    monkeypatch.setattr(video._index, "key_frame", lambda index: KeyFrame(130, 170 * 512))
    name, frame, time = next(video.frames(150))
    assert (name, time) == (expected[0], expected[2])
    np.testing.assert_array_equal(frame, expected[1])


def test_a_start_beyond_the_end_is_told(tmp_path: Path) -> None:
    video = Video(write(tmp_path / "v.mp4", bf="3"), start=FRAMES)
    with pytest.raises(UserError, match="fewer frames"):
        list(video)
