"""Frames of a video file, in order, down to the last whole one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from s2svos.pipeline import EndedEarly
from s2svos.video.truncation import is_cut_off
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

_Damageable = TypeVar("_Damageable", "av.Packet[VideoStream]", VideoFrame)
FALLBACK_RATE = Fraction(24)  # frames a second, where nothing better is known


class TruncatedVideo(EndedEarly):
    """The video ends before its end; raised after its last whole frame.

    Args:
        path: of the video.
        index: of the last whole frame.
        name: of that frame.
    """

    def __init__(self, path: Path, index: int, name: str) -> None:
        super().__init__(
            f"{path} is cut off or damaged after frame {index} ({name}), its last whole one; "
            "fetch or record it again, or go on with the masks up to there."
        )
        self.index = index
        self.name = name


def frame_name(index: int) -> str:
    """Name of a frame of a video file: five digits, as in DAVIS."""
    return f"{index:05d}"


class RgbPictures:
    """Makes decoded frames RGB pictures of one size, turned as the file asks for.

    Args:
        size: width and height before turning, in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Frame:
        """Convert a decoded frame to uint8 [H, W, 3] RGB, C-contiguous."""
        width, height = self._size
        # A kept reformatter with fast bilinear: 0.25 ms at 854x480, the default 1.7 ms; where
        # nothing is scaled the pictures are the same to the bit (PyAV 18).
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="FAST_BILINEAR"
        ).to_ndarray()
        turned = np.rot90(rgb, frame.rotation // 90) if frame.rotation else rgb
        return np.ascontiguousarray(turned, dtype=np.uint8)


class VideoFile:
    """A video file; each iteration decodes it from its beginning.

    Attributes:
        width, height: in pixels, after the rotation that the file asks for.
        rate: frames a second.
        count: frames that the file says it holds, or None; for progress, may be off.

    Raises:
        UserError: missing, no video, or not one readable frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as (container, stream):
            self.rate = stream.average_rate or stream.guessed_rate or FALLBACK_RATE
            self.count = frame_count(container, stream, self.rate)
            first = next(self._whole_frames(container, stream), None)
        if first is None:
            raise UserError(
                f"{path} holds no frame that can be decoded", "check that it plays, or name another"
            )
        self._coded_size = first.width, first.height
        turned = first.rotation % 180 == 90
        self.width, self.height = self._coded_size[::-1] if turned else self._coded_size

    def frames(self, start: int = 0) -> Iterator[tuple[str, Frame]]:
        """Names and pictures from frame ``start`` on.

        Yields:
            name, uint8 [H, W, 3] RGB, C-contiguous.

        Raises:
            TruncatedVideo: after the last whole frame, where more should follow.
        """
        picture = RgbPictures(self._coded_size)
        index = -1
        with self._open() as (container, stream):
            whole = self._whole_frames(container, stream)
            while True:
                try:
                    frame = next(whole)
                except StopIteration as end:
                    if end.value:
                        raise TruncatedVideo(self.path, index, frame_name(index)) from None
                    return
                index += 1
                if index >= start:
                    yield frame_name(index), picture(frame)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            container = av.open(f"file:{self.path}")  # a colon in a name is no protocol's
        except FileNotFoundError as error:
            raise UserError(f"{self.path} does not exist", "check the path of the video") from error
        except (av.FFmpegError, OSError) as error:
            raise UserError(
                f"{self.path} cannot be read as a video ({error.strerror})",
                "it may be another kind of file, or cut off before its index",
            ) from error
        with container:
            stream = video_stream(container)
            if not stream:
                raise UserError(f"{self.path} holds no video", "name a video or a folder of frames")
            stream.thread_type = "AUTO"
            yield container, stream

    def _whole_frames(
        self, container: InputContainer, stream: VideoStream
    ) -> Generator[VideoFrame, None, bool]:
        """Frames without damage at the end; returns whether the file was cut off."""
        cut = is_cut_off(self.path, container.format.name)
        if cut:
            # Decoded frame by frame in threads, a damaged end now and then passed for whole.
            stream.thread_type = "SLICE"
        return (yield from _without_damaged_end(_decode(container, stream, cut)))


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first stream of moving pictures: no cover art, no text that FFmpeg would draw."""
    if container.format.name == "tty":
        return None
    moving = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(moving, None)


def _decode(
    container: InputContainer, stream: VideoStream, cut: bool
) -> Generator[VideoFrame, None, bool]:
    """Frames in the order of display; returns whether some are missing after them."""
    packets = _without_damaged_end(_demux(container, stream, cut))
    last: VideoFrame | None = None
    while True:
        try:
            packet = next(packets)
        except StopIteration as end:
            damaged = cut or bool(end.value)
            break
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            if last:
                return True
            continue  # a recording that starts between key frames
        for frame in frames:
            yield frame
            last = frame
    try:
        frames = stream.decode(None)
    except av.FFmpegError:
        return True
    for frame in frames:
        if frame.is_corrupt or (damaged and last and _gap(last, frame, stream)):
            return True
        yield frame
        last = frame
    return damaged


def _gap(last: VideoFrame, frame: VideoFrame, stream: VideoStream) -> bool:
    """Whether a frame between the two was lost: those shown earlier may be stored later."""
    if last.pts is None or frame.pts is None or not (stream.average_rate and stream.time_base):
        return False
    return (frame.pts - last.pts) * stream.time_base * stream.average_rate > 1.5


def _demux(
    container: InputContainer, stream: VideoStream, cut: bool
) -> Generator[av.Packet[VideoStream], None, bool]:
    """Yield packets with content; return whether reading failed."""
    packets = (packet for packet in container.demux(stream) if packet.size)  # an empty one flushes
    # A transport stream does not say how long a packet is: the last one of a file that was cut off
    # lacks its end, which FFmpeg now and then conceals without a word.
    held = cut and container.format.name == "mpegts"
    last: av.Packet[VideoStream] | None = None
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return True
        if packet is None:
            return False
        if not held:
            yield packet
        elif last:
            yield last
        last = packet


def _without_damaged_end(
    items: Generator[_Damageable, None, bool],
) -> Generator[_Damageable, None, bool]:
    """Yield items, but not a damaged one at the end; return whether the end is damaged.

    Damage before the end stays: a broadcast has it, and every player conceals it.
    """
    held: _Damageable | None = None
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            return bool(end.value) or held is not None
        if held is not None:
            yield held
        held = item if item.is_corrupt else None
        if held is None:
            yield item


def frame_count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    """Frames that a container says it holds, or that its duration makes likely, or None."""
    if stream.frames:
        return stream.frames
    if stream.duration is not None and stream.time_base is not None:
        return round(stream.duration * stream.time_base * rate)
    if container.duration is not None:
        return round(Fraction(container.duration, av.time_base) * rate)
    return None
