"""Which frame of a video file has which time stamp, and from where it can be decoded."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from s2svos_engines.errors import UserError

# Of these a packet is a frame, and has the time at which it is shown: so packets, which need no
# decoding, tell the frames. VP8 has packets that are not shown, MPEG-2 has fields.
_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
_CODECS = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1"}


@dataclass(frozen=True)
class KeyFrame:
    """A frame that can be decoded without those before it.

    Attributes:
        index: of the frame.
        pts: when it is shown, in the stream's time base.
    """

    index: int
    pts: int


class FrameIndex:
    """The time stamps of frames in the order of display, read from packets as far as is needed.

    Args:
        packets: of the stream, from its first one; read by nobody else.
    """

    def __init__(self, packets: Iterable[av.Packet[VideoStream]]) -> None:
        self._packets = iter(packets)
        self._stamps: list[int] = []  # rising
        self._keys: list[int] = []  # their time stamps, rising
        self._decoded_to: float = -math.inf  # later packets are shown later
        self._usable = True
        self._lock = Lock()

    def stamps(self, index: int) -> list[int] | None:
        """Return the time stamps of all frames before ``index`` and of that one.

        Returns:
            [index + 1], rising; None if there is no such frame, or packets do not tell.
        """
        with self._lock:
            while self._usable and bisect_right(self._stamps, self._decoded_to) <= index:
                self._read()
            return self._stamps[: index + 1] if index < len(self._stamps) else None

    def stamps_until(self, stamp: float) -> list[int] | None:
        """Return all time stamps up to one, and perhaps further; None if packets do not tell."""
        with self._lock:
            while self._usable and self._decoded_to <= stamp:
                self._read()
            return list(self._stamps) or None

    def first_stamp(self) -> int | None:
        """Return the time stamp of the first frame; None if packets do not tell."""
        found = self.stamps(0)
        return found[0] if found else None

    def key_frame(self, index: int) -> KeyFrame | None:
        """Return the last key frame at or before a frame whose :meth:`stamps` are known."""
        with self._lock:
            if not (place := bisect_right(self._keys, self._stamps[index])):
                return None
            pts = self._keys[place - 1]
            return KeyFrame(bisect_left(self._stamps, pts), pts)

    def _read(self) -> None:
        try:
            packet = next(self._packets, None)
        except (av.FFmpegError, UserError):
            return self._give_up()
        if packet is None or not packet.size:  # the last one, which only flushes decoders
            self._decoded_to, self._usable = math.inf, False
        elif packet.is_corrupt or packet.pts is None or packet.dts is None:
            self._give_up()  # which frames such a file has is seen where it is decoded
        elif not packet.is_discard:  # the file's edit list leaves that one out
            insort(self._stamps, packet.pts)
            if packet.is_keyframe:
                insort(self._keys, packet.pts)
            self._decoded_to = packet.dts

    def _give_up(self) -> None:
        self._usable = False
        self._stamps.clear()


def packets_are_frames(container: InputContainer, stream: VideoStream) -> bool:
    """Return whether every packet of a stream is known to be one frame that is shown."""
    formats = container.format.name.split(",")
    context = stream.codec_context  # None of a damaged file that names no codec
    known = context is not None and context.codec.canonical_name in _CODECS
    return known and bool(_CONTAINERS.intersection(formats))
