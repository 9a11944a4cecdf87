"""Frames of a video file, in order, down to the last whole one."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from s2svos.pipeline import EndedEarly
from s2svos.video.pyav import LENIENT
from s2svos.video.seeking import FrameIndex, packets_are_frames
from s2svos.video.truncation import is_cut_off
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError
from s2svos_engines.files import need_regular_file

_Damageable = TypeVar("_Damageable", "av.Packet[VideoStream]", VideoFrame)
FALLBACK_RATE = Fraction(24)  # frames a second, where nothing better is known
_LEAP = 3600  # seconds between two frames from which on a clock was set anew
_QUARTERS = (1, 0), (0, 1), (-1, 0), (0, -1)  # cosine and sine of quarter turns, anticlockwise
_ODD = 0.02  # of a display matrix: about a degree, which FFmpeg takes for none
_SEEK_FROM = 60  # frames, that are decoded in the time in which a file is opened anew
_DEMUX_FAILURES = 20  # after which a file counts as ended
# Small files that say where the video is: a file is itself, and names no others.
_LISTS = {"concat", "dash", "hls", "imf", "rtsp", "sdp", "webm_dash_manifest"}
_ONE_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(sorted(av.formats_available - _LISTS)),
}


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


@dataclass
class Losses:
    """Counts what was lost of a video in its middle.

    Attributes:
        packets: that could not be decoded; as a rule a frame each.
    """

    packets: int = 0


class Clock:
    """Tells when frames are shown, in rising seconds from the first one.

    A time stamp that is missing, goes back or leaps far ahead, as where a broadcast begins anew,
    counts as one frame later.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: Fraction) -> None:
        self._frame = 1 / rate
        self._began: Fraction | None = None
        self._last: Fraction | None = None

    def __call__(self, stamp: Fraction | None) -> Fraction:
        """Return the time of the next frame, by its stamp in seconds."""
        usual = Fraction(0) if self._last is None else self._last + self._frame
        if stamp is None:
            time = usual
        else:
            if self._began is None:
                self._began = stamp - usual
            time = stamp - self._began
            if self._last is not None and not self._last < time < self._last + _LEAP:
                self._began, time = stamp - usual, usual
        self._last = time
        return time


def time_stamp(frame: VideoFrame, stream: VideoStream) -> Fraction | None:
    """Return the time stamp of a stream's decoded frame in seconds; None if it has none."""
    # The frame's own time base is missing of those that a decoder gives at the end.
    if frame.pts is None or stream.time_base is None:
        return None
    return frame.pts * stream.time_base


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
        picture = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="FAST_BILINEAR"
        )
        rgb = np.asarray(picture.to_ndarray(), np.uint8)
        matrix = _display_matrix(frame)
        return rgb if matrix is None else _displayed(rgb, matrix)


def _display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """Return the display matrix of a frame, int32 [9]; None if it has none."""
    try:
        side_data = cast("Mapping[str, Any]", frame.side_data)
    except ValueError:  # PyAV 18 does not know all kinds, and then tells none
        cosine, sine = _QUARTERS[frame.rotation // 90 % 4]
        return np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1], np.int32)
    matrix = side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(matrix, np.int32)


def _displayed(rgb: Frame, matrix: NDArray[np.int32]) -> Frame:
    """Return a picture as a display matrix asks for, as FFmpeg turns it.

    Args:
        rgb: uint8 [H, W, 3].
        matrix: int32 [9], of libavutil/display.h: a place (x, y) is shown at (a x + c y, b x + d
            y), with a, b, c, d its elements 0, 1, 3, 4; others move it or are for perspective.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    if not straight + across:
        return rgb
    if min(straight, across) > _ODD * max(straight, across):
        return _rotated(rgb, math.degrees(math.atan2(b, a)))
    if straight >= across:
        turned, flip_x, flip_y = rgb, a < 0, d < 0
    else:
        turned, flip_x, flip_y = rgb.transpose(1, 0, 2), c < 0, b < 0
    turned = turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    return np.ascontiguousarray(turned)


def _rotated(rgb: Frame, degrees: float) -> Frame:
    """Turn a picture clockwise within its own size; what lies beyond it is black."""
    height, width = rgb.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    return np.asarray(cv2.warpAffine(rgb, turn, (width, height)), np.uint8)


class VideoFile:
    """A video file; each iteration decodes it from its beginning.

    Attributes:
        width, height: in pixels, after the rotation that the file asks for.
        rate: frames a second.
        time_base: seconds, of which times are multiples.
        pixel_aspect: width of a pixel in its heights, after that rotation.
        losses: of the latest iteration, so far.
        doubts: none; pictures have some.
        count: frames that the file says it holds, or None; for progress, may be off.

    Raises:
        UserError: missing, no video, or not one readable frame.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.losses, self.doubts = path, Losses(), list[str]()
        with self._open() as (container, stream):
            self.rate = stream.average_rate or stream.guessed_rate or FALLBACK_RATE
            self.time_base = fine_time_base(stream, self.rate)
            self._time_base = stream.time_base or 1 / self.rate
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self.count = frame_count(container, stream, self.rate)
            self._index = (
                FrameIndex(self._packets())
                if packets_are_frames(container, stream)
                and not is_cut_off(self.path, container.format.name)
                else None
            )
            first = next(self._whole_frames(container, stream), None)
        if first is None:
            raise UserError(
                f"{path} holds no frame that can be decoded", "check that it plays, or name another"
            )
        self._coded_size = first.width, first.height
        self.height, self.width = RgbPictures(self._coded_size)(first).shape[:2]
        turned = first.rotation % 180 == 90
        self.pixel_aspect = 1 / aspect if turned else aspect

    def frames(self, start: int = 0) -> Iterator[tuple[str, Frame, Fraction]]:
        """Names, pictures and times from frame ``start`` on.

        Yields:
            name, uint8 [H, W, 3] RGB, C-contiguous, and seconds from the video's first frame.

        Raises:
            TruncatedVideo: after the last whole frame, where more should follow.
        """
        self.losses.packets = 0
        if start >= _SEEK_FROM and self._index and (stamps := self._index.stamps(start)):
            with self._open() as (container, stream):
                if (whole := self._seek(container, stream, stamps)) is not None:
                    clock = Clock(self.rate)
                    for stamp in stamps[:-1]:
                        clock(stamp * cast("Fraction", stream.time_base))
                    yield from self._named(whole, stream, clock, start, start)
                    return
        with self._open() as (container, stream):
            whole = self._whole_frames(container, stream)
            yield from self._named(whole, stream, Clock(self.rate), 0, start)

    def index_at(self, time: Fraction) -> int | None:
        """Return the index of the first frame that is shown at a time or later.

        Args:
            time: seconds from the video's first frame.

        Returns:
            None if there is none.
        """
        first = self._index.first_stamp() if self._index else None
        if self._index and first is not None:
            last = first + float(time / self._time_base)
            clock = Clock(self.rate)
            times = (clock(one * self._time_base) for one in self._index.stamps_until(last) or ())
        else:
            times = (shown for _, _, shown in self.frames())
        return next((index for index, shown in enumerate(times) if shown >= time), None)

    def _named(
        self,
        whole: Generator[VideoFrame, None, bool],
        stream: VideoStream,
        clock: Clock,
        index: int,
        start: int,
    ) -> Iterator[tuple[str, Frame, Fraction]]:
        """Yield frames from ``start`` on, of those whose first has the number ``index``."""
        picture = RgbPictures(self._coded_size)
        while True:
            try:
                frame = next(whole)
            except StopIteration as end:
                if end.value:
                    raise TruncatedVideo(self.path, index - 1, frame_name(index - 1)) from None
                return
            time = clock(time_stamp(frame, stream))
            if index >= start:
                yield frame_name(index), picture(frame), time
            index += 1

    def _seek(
        self, container: InputContainer, stream: VideoStream, stamps: list[int]
    ) -> Generator[VideoFrame, None, bool] | None:
        """Return the frames from that of the last time stamp on, decoded from a key frame.

        None where they are not to be reached that way, as of a file whose key frames are none.
        """
        assert self._index
        key = self._index.key_frame(len(stamps) - 1)
        if key is None or key.index < 1:
            return None
        container.seek(key.pts, stream=stream)
        whole = self._whole_frames(container, stream)
        frame = next(whole, None)
        if frame is None or frame.pts is None or frame.pts > key.pts:
            return None
        while frame is not None and frame.pts is not None and frame.pts < stamps[-1]:
            frame = next(whole, None)
        return _before(frame, whole) if frame and frame.pts == stamps[-1] else None

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        with self._open() as (container, stream):
            yield from container.demux(stream)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            need_regular_file(self.path, "The video")
            # A colon in a name is no protocol's.
            container = av.open(f"file:{self.path}", options=_ONE_FILE, **LENIENT)
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
        frames = _decode(container, stream, cut, self.losses)
        return (yield from _without_damaged_end(frames))


def _before(
    first: VideoFrame, others: Generator[VideoFrame, None, bool]
) -> Generator[VideoFrame, None, bool]:
    yield first
    return (yield from others)


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving pictures that a player shows: the default one, or the largest.

    Neither cover art, nor text that FFmpeg would draw.
    """
    if container.format.name == "tty":
        return None
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]

    def rank(stream: VideoStream) -> tuple[bool, int]:
        # A stream whose first packets are missing has no size yet.
        size = getattr(stream, "width", 0) * getattr(stream, "height", 0)
        return bool(stream.disposition & Disposition.default), size

    return max(moving, key=rank, default=None)


def fine_time_base(stream: VideoStream, rate: Fraction) -> Fraction:
    """Return the seconds of which a stream's times are multiples; a frame's where it states none.

    No finer than a microsecond, which an MP4 can state.
    """
    base = stream.time_base or 1 / rate
    return base if base.denominator <= 1_000_000 * base.numerator else Fraction(1, 90_000)


def _decode(
    container: InputContainer, stream: VideoStream, cut: bool, losses: Losses
) -> Generator[VideoFrame, None, bool]:
    """Frames in the order of display; returns whether some are missing after them.

    A packet that cannot be decoded costs its frames; it is one of the losses if others follow.
    """
    packets = _without_damaged_end(_demux(container, stream, cut))
    last: VideoFrame | None = None
    failed = 0  # packets since the last frame
    while True:
        try:
            packet = next(packets)
        except StopIteration as end:
            damaged = cut or bool(end.value)
            break
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            failed += last is not None  # none is, of a recording that starts between key frames
            continue
        for frame in frames:
            losses.packets, failed = losses.packets + failed, 0
            yield frame
            last = frame
    damaged = damaged or failed > 0
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
    failures = 0
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            failures += 1
            if failures > _DEMUX_FAILURES:
                return True
            packets = (packet for packet in container.demux(stream) if packet.size)
            continue
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
