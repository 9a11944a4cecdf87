"""What is copied from the source into a video made of it: its sound, and what its colours mean."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from s2svos.video.decoder import video_stream
from s2svos.video.pyav import LENIENT

_NOT_STATED = 2  # FFmpeg's number, of primaries and of transfer


class SourceTracks:
    """The sound of a video, copied packet by packet as frames are written; and its colour tags.

    Args:
        path: of the video. What is no file has neither.

    Attributes:
        primaries, transfer: of its colours, FFmpeg's numbers.
    """

    def __init__(self, path: Path) -> None:
        self.primaries = self.transfer = _NOT_STATED
        self._source: InputContainer | None = None
        self._audio: AudioStream | None = None
        self._origin = Fraction(0)  # of the frames' times, by the source's clock
        self._first: Fraction | None = None
        if not path.is_file():
            return
        with suppress(av.FFmpegError, OSError):
            self._source = av.open(f"file:{path}", **LENIENT)
            if (stream := video_stream(self._source)) and stream.codec_context:
                self.primaries = int(stream.codec_context.color_primaries)
                self.transfer = int(stream.codec_context.color_trc)
                if stream.start_time is not None and stream.time_base:
                    self._origin = stream.start_time * stream.time_base
            self._audio = next(iter(self._source.streams.audio), None)

    def add_to(self, target: OutputContainer) -> None:
        """Announce the sound, before the first frame, to a video that can hold it."""
        if not (self._source and self._audio):
            return
        codec = self._audio.codec_context
        if codec is None or codec.codec.canonical_name not in target.supported_codecs:
            self._audio = None
            return
        self._target, self._copy = target, target.add_stream_from_template(self._audio)
        packets = self._source.demux(self._audio)
        self._packets = (p for p in packets if p.pts is not None and p.size)
        self._next = next(self._packets, None)

    def write_to(self, time: Fraction) -> None:
        """Write the sound up to a frame's time, in seconds from the source's first frame.

        The first of these times is that of the first frame that is written, which becomes 0.
        """
        if self._first is None:
            self._first = time
        while self._audio and self._next:
            packet = self._next
            assert packet.pts is not None and packet.time_base
            at = packet.pts * packet.time_base - self._origin
            if at >= time:
                return
            self._next = next(self._packets, None)
            if self._first > 0 and at < self._first:  # what comes before 0 primes the decoder
                continue
            packet.pts -= round((self._first + self._origin) / packet.time_base)
            packet.dts = packet.pts
            packet.stream = self._copy
            self._target.mux(packet)

    def close(self) -> None:
        """Close the source."""
        if self._source:
            self._source.close()
