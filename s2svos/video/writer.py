"""Video files, a frame at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from s2svos.video.pyav import ONE_THREAD

_BT601, _BT709, _LIMITED_RANGE = 5, 1, 1  # FFmpeg's numbers


@dataclass(frozen=True)
class Encoding:
    """How frames are kept.

    Args:
        codec: FFmpeg's name of the encoder.
        pixels: of the encoder; yuv420p is made of RGB, others of RGBA.
        container: the file's format.
        options: of the encoder.
    """

    codec: str
    pixels: str
    container: str
    options: Mapping[str, str]


# superfast without lookahead and CABAC: 3.6 ms a frame at 854x480; with them 5.1 ms for 6% fewer
# bytes, veryfast 9.3 ms for 22% fewer, ultrafast 2.2 ms for 66% more. crf is x264's constant
# quality: 23 to look at, 14 close to lossless.
H264 = Encoding(
    "libx264",
    "yuv420p",
    "mp4",
    {
        "preset": "superfast",
        "crf": "23",
        "x264-params": "b-adapt=0:scenecut=0:weightp=0:cabac=0",
    },
)
PRORES_4444 = Encoding("prores_ks", "yuva444p10le", "mov", {"profile": "4", "vendor": "apl0"})
# Of frames that are not shown, which libvpx makes otherwise, it cannot keep the alpha.
VP9_ALPHA = Encoding(
    "libvpx-vp9",
    "yuva420p",
    "webm",
    {"crf": "18", "b": "0", "deadline": "realtime", "cpu-used": "6", "auto-alt-ref": "0"},
)


class Timed(Protocol):
    """What a video says of its frames."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def rate(self) -> Fraction:
        """Frames a second."""

    @property
    def time_base(self) -> Fraction:
        """Seconds, of which times are multiples."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel in its heights."""


class Tracks(Protocol):
    """What goes beside the frames: see :class:`s2svos.saving.source.SourceTracks`."""

    primaries: int
    transfer: int

    def add_to(self, target: OutputContainer) -> None:
        """Announce further tracks, before the first frame."""

    def write_to(self, time: Fraction) -> None:
        """Write them up to a time of the frames."""

    def close(self) -> None:
        """Close what they come from."""


class VideoWriter:
    """A video that grows by one frame at a time; has its name once it is whole.

    Args:
        path: of the file; until it is closed it is called ``<name>.part``.
        width, height: of the frames; odd ones grow by a pixel that repeats the border.
        rate: frames a second.
        time_base: seconds of which the frames' times are multiples; None for those of a frame.
        pixel_aspect: width of a pixel in its heights.
        encoding: of the frames.
        crf: another constant quality than the encoding's.
        threads: of the encoder; one, so that the network keeps the other cores.
        tracks: sound and colour tags that it takes over from the source.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        rate: Fraction,
        time_base: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
        encoding: Encoding = H264,
        crf: int | None = None,
        threads: int = 1,
        tracks: Tracks | None = None,
    ) -> None:
        self.path = path
        self._encoding, self._tracks = encoding, tracks
        self.frames = 0
        self._next = Fraction(0)
        self._began = Fraction(0)
        self._part = path.with_name(f"{path.name}.part")
        self._odd = height % 2, width % 2
        self._container = av.open(
            # FFmpeg takes what is before a colon for a protocol.
            f"file:{self._part}",
            "w",
            format=encoding.container,
            options={} if encoding.container == "webm" else {"movflags": "+faststart"},
        )
        options = {**encoding.options, "threads": str(threads)}
        if crf is not None:
            options["crf"] = str(crf)
        stream = self._container.add_stream(encoding.codec, rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = encoding.pixels
        self._frame, self._time_base = 1 / rate, time_base or 1 / rate
        stream.codec_context.time_base = self._time_base
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._matrix = _BT601 if encoding.pixels == "yuv420p" else _BT709
        stream.codec_context.colorspace = self._matrix
        stream.codec_context.color_range = _LIMITED_RANGE
        if tracks:
            stream.codec_context.color_primaries = tracks.primaries
            stream.codec_context.color_trc = tracks.transfer
            tracks.add_to(self._container)
        self._stream = stream
        self._open = True

    @classmethod
    def like(cls, video: Timed, path: Path, **options: Any) -> Self:
        """Open a video of the size, times and pixel aspect of another one."""
        return cls(
            path,
            width=video.width,
            height=video.height,
            rate=video.rate,
            time_base=video.time_base,
            pixel_aspect=video.pixel_aspect,
            **options,
        )

    def write(self, frame: NDArray[np.uint8], *, at: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            frame: uint8 [H, W, 3] RGB, or [H, W, 4] RGBA where the encoding has an alpha.
            at: seconds, of any origin, at which it is shown, later than the one before; None for
                a frame after that.

        Raises:
            OSError: the file cannot be written.
        """
        rows, columns = self._odd
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        picture = self._picture(frame)
        at = self._next if at is None else at
        if not self.frames:
            self._began = at
        picture.pts = round((at - self._began) / self._time_base)
        picture.time_base = self._time_base
        if self._tracks:
            self._tracks.write_to(at)
        self._container.mux(self._stream.encode(picture))
        self.frames += 1
        self._next = at + self._frame

    def _picture(self, frame: NDArray[np.uint8]) -> av.VideoFrame:
        if self._encoding.pixels == "yuv420p":
            # OpenCV converts in 0.3 ms at 854x480, FFmpeg's scaler in 1.4 ms.
            planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
            return av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")
        return av.VideoFrame.from_ndarray(frame, format="rgba").reformat(
            format=self._encoding.pixels,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            **ONE_THREAD,
        )

    def close(self, *, keep: bool) -> None:
        """Finishes the video with the frames written so far, or deletes it; once.

        Args:
            keep: False deletes it; so does True where there is no frame.

        Raises:
            OSError: it cannot be finished; it is deleted.
        """
        if not self._open:
            return
        self._open = False
        whole = False
        try:
            if keep and self.frames:
                if self._tracks:
                    self._tracks.write_to(self._next)
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._part.replace(self.path)
                whole = True
        finally:
            if self._tracks:
                self._tracks.close()
            if not whole:
                self._discard()

    def _discard(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # it cannot be finished: that is why it goes
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(keep=error is None)
