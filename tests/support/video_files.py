"""Small videos for the tests: a red square that moves over green."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 1] = 90
    # Noise keeps the encoded frames large, so that a cut takes whole ones away.
    frame[..., 2] = np.random.default_rng(index).integers(0, 120, (height, width))
    frame[10:30, 5 + index % 20 : 25 + index % 20] = (230, 10, 10)
    return frame


def reds(frame: NDArray[np.uint8], label: int = 1) -> NDArray[np.uint8]:
    return np.where(frame[..., 0] > 128, label, 0).astype(np.uint8)


def write_video(
    path: Path,
    frames: int,
    *,
    codec: str = "libx264",
    height: int = HEIGHT,
    width: int = WIDTH,
    rotation: int = 0,
    rate: Fraction = Fraction(25),
) -> Path:
    options = {"bf": "3", "crf": "10"} if codec == "libx264" else {"b": "2000000"}
    flags = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(path, "w", options=flags) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, height, width), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path) -> Path:
    flags = {"movflags": "+faststart"} if target.suffix == ".mp4" else {}
    with av.open(source) as given, av.open(target, "w", options=flags) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def cut(source: Path, share: float) -> Path:
    target = source.with_name(f"cut-{share}{source.suffix}")
    data = source.read_bytes()
    # Within a packet of a transport stream, which cannot tell what is missing after one.
    end = int(len(data) * share)
    target.write_bytes(data[: end - (end % 188 == 0)])
    return target
