"""The video that ``s2svos infer`` follows, as it is named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from s2svos.commands.options import parse_size
from s2svos.video.address import address_name, is_address, stem
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos.video.incoming import Feed, IncomingVideo
    from s2svos.video.reader import Video


@dataclass(frozen=True)
class VideoSource:
    """A video file or folder, a camera, the address of a stream, or standard input.

    Args:
        video: path, address, or ``-``; None for a camera.
        camera: its number; None for none.
        size: width and height of raw frames, or what a camera is asked for.
        rate: frames a second; None for what the input says.
        live: whether late frames are dropped; None for what suits the input.
        timeout: seconds without a frame that end a run.
    """

    video: str | None
    camera: int | None
    size: tuple[int, int] | None
    rate: Fraction | None
    live: bool | None
    timeout: float

    @classmethod
    def of(
        cls,
        video: str | None,
        camera: int | None,
        *,
        size: str | None,
        fps: float | None,
        live: bool | None,
        timeout: float,
        start: int,
    ) -> VideoSource:
        """Check that the options fit the input.

        Raises:
            typer.BadParameter: they do not.
        """
        if (video is None) == (camera is None):
            raise typer.BadParameter(
                "name one: a file, a folder, the address of a stream, - or --camera N",
                param_hint="VIDEO",
            )
        rate = Fraction(fps).limit_denominator(1001) if fps else None
        parsed = parse_size(size, option="--video-size", example="854x480") if size else None
        source = cls(video, camera, parsed, rate, live, timeout)
        raw = video == "-"
        if raw and size is None:
            raise typer.BadParameter(
                "raw frames do not tell their size: give it as --video-size WIDTHxHEIGHT",
                param_hint="--video-size",
            )
        if size and not raw and camera is None:
            raise typer.BadParameter("a video has its own size", param_hint="--video-size")
        if not source.incoming and fps:
            raise typer.BadParameter("a file has its own rate", param_hint="--fps")
        if not source.incoming and live:
            raise typer.BadParameter("a file waits: no frame is late", param_hint="--live")
        if source.incoming and start:
            raise typer.BadParameter(
                "only a file or a folder can begin later; a camera, a stream or standard input "
                "begins with the frame that comes first",
                param_hint="--start",
            )
        return source

    @property
    def incoming(self) -> bool:
        """Whether frames come in by themselves, and once."""
        return self.video is None or self.video == "-" or is_address(self.video)

    def open(
        self, start: int, end: int | None, *, beside: Collection[Path] = ()
    ) -> Video | IncomingVideo:
        """Open it; an incoming video has given its first frame then.

        Args:
            start: index of the first frame.
            end: index after the last one; None for all.
            beside: pictures that may lie in a folder of frames and are none.

        Raises:
            UserError: it cannot be opened.
        """
        from s2svos.video.incoming import IncomingVideo
        from s2svos.video.reader import Video

        if not self.incoming:
            assert self.video is not None
            return Video(self.video, start=start, end=end, beside=beside)
        name, connect = self._connection()
        return IncomingVideo(name, connect, live=self.live, end=end, timeout=self.timeout)

    def _connection(self) -> tuple[str, Callable[[], Feed]]:
        """Return the input's name in messages, and the function that opens it."""
        from s2svos.video.incoming_sources import (
            STANDARD_INPUT,
            camera_name,
            open_address,
            open_camera,
            open_raw,
        )

        if self.camera is not None:
            camera = partial(open_camera, self.camera, size=self.size, rate=self.rate)
            return camera_name(self.camera), camera
        assert self.video is not None
        if self.video != "-":
            address = partial(open_address, self.video, timeout=self.timeout, rate=self.rate)
            return address_name(self.video), address
        assert self.size is not None
        if sys.stdin is None:
            raise UserError("Standard input is closed", "pipe frames into it, or name a video")
        if sys.stdin.isatty():
            raise UserError(
                "Standard input is a terminal",
                (
                    "pipe frames into it, as in ffmpeg -i VIDEO -f "
                    "rawvideo -pix_fmt rgb24 - | s2svos infer - --video-size 854x480"
                ),
            )
        pipe = FileIO(sys.stdin.fileno(), closefd=False)
        return STANDARD_INPUT, partial(open_raw, pipe, size=self.size, rate=self.rate)

    def default_out(self) -> Path:
        """Return the default folder for results, named after the input, in the working folder."""
        from s2svos.inference.run import default_out

        if self.video is None:
            return Path(f"camera-{self.camera}")
        if self.video == "-":
            return Path("stdin")
        if self.incoming:
            return Path(stem(self.video))
        return default_out(self.video)
