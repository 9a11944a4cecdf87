"""Sources of incoming video: cameras, addresses that FFmpeg reads (rtsp, http ...), and pipes.

Pipes carry bare frames and masks, as ``ffmpeg -f rawvideo`` writes and reads them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import FileIO

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from s2svos.pipeline import EndedEarly, stalled
from s2svos.standard_streams import need_standard_output
from s2svos.video.address import address_name
from s2svos.video.decoder import (
    FALLBACK_RATE,
    Clock,
    Losses,
    RgbPictures,
    fine_time_base,
    frame_count,
    time_stamp,
    video_stream,
)
from s2svos.video.incoming import Feed, evenly_timed
from s2svos.video.pyav import LENIENT
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

_CAMERA_TICK = Fraction(1, 1000)  # seconds, of which a camera's times are multiples
_WARM_UP = 10  # frames in which a camera finds its exposure


def camera_name(index: int) -> str:
    """Return the name of a camera in messages."""
    return f"camera {index}"


def open_camera(
    index: int, *, size: tuple[int, int] | None = None, rate: Fraction | None = None
) -> Feed:
    """Open a camera and take its first frame, once the exposure has settled.

    Args:
        index: which one, as the system counts them.
        size: width and height to ask it for; it may give others. None for its own.
        rate: frames a second to ask it for; None for its own.

    Raises:
        UserError: it cannot be opened.
        EndedEarly: it gives no frames.
    """
    # OpenCV rather than FFmpeg's devices: PyAV's wheels have none on some systems.
    with _silent():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise UserError(
            f"{camera_name(index).capitalize()} cannot be opened",
            "check that it is connected, that no other program uses it, and its number (--camera 0 "
            "is the first)",
        )
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if rate:
        capture.set(cv2.CAP_PROP_FPS, float(rate))
    stated = Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    frames = _camera_frames(capture, camera_name(index))
    for _ in range(_WARM_UP):
        next(frames)
    first, began = next(frames)
    later = ((frame, at - began) for frame, at in frames)
    rate = rate or stated or FALLBACK_RATE
    return Feed(first, later, rate, live=True, time_base=_CAMERA_TICK)


def _camera_frames(capture: cv2.VideoCapture, name: str) -> Iterator[tuple[Frame, Fraction]]:
    """Yield pictures with the time at which each came, in seconds of any origin."""
    while True:
        taken, picture = capture.read()
        if not taken:
            raise EndedEarly(f"The {name} gives no more frames", "check that it is still connected")
        came = Fraction(round(time.monotonic() / _CAMERA_TICK)) * _CAMERA_TICK
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), came


@contextmanager
def _silent() -> Iterator[None]:
    """Silence OpenCV's own lines about a missing camera: one sentence is enough."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


# UDP loses packets without notice, and FFmpeg would try it first.
_OPTIONS = {"rtsp_flags": "prefer_tcp"}
_LISTS = {"hls", "dash", "sdp"}  # formats of small files that say where the video is
_HIGHEST_RATE = 1000  # frames a second; the clock of a live stream ticks 90000 times


def open_address(address: str, *, timeout: float, rate: Fraction | None = None) -> Feed:
    """Open a stream and decode its first frame.

    It is live unless it states its length: then it is a file that happens to lie elsewhere.

    Args:
        address: with its scheme, as rtsp://host/path.
        timeout: seconds to wait for an answer, and later for data.
        rate: frames a second; None for what the stream says.

    Raises:
        UserError: it cannot be opened, or holds no video.
        EndedEarly: no answer in time.
    """
    name = address_name(address)
    try:
        container = av.open(address, timeout=timeout, options=_OPTIONS, **LENIENT)
    except av.ExitError as error:
        raise stalled(name, timeout) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"{name} cannot be opened ({getattr(error, 'strerror', 'it is no address')})",
            "check the address, and that the sender is running",
        ) from error
    stream = video_stream(container)
    if not stream:
        raise UserError(f"{name} holds no video", "name the address of a video")
    live = not _states_length(container)
    # Threads that decode a frame each hold back as many frames as there are threads.
    stream.thread_type = "SLICE" if live else "AUTO"
    rate = rate or _stated_rate(stream) or FALLBACK_RATE
    losses = Losses()
    frames = _address_frames(container, stream, name, timeout, Clock(rate), losses)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{name} ended before its first whole frame", "check that it plays")
    return Feed(
        first[0],
        frames,
        rate,
        live,
        frame_count(container, stream, rate),
        fine_time_base(stream, rate),
        stream.sample_aspect_ratio or Fraction(1),
        losses,
    )


def _states_length(container: InputContainer) -> bool:
    """Return whether it states its length, in seconds or in bytes."""
    if container.duration is not None:
        return True
    # PyAV 19 has None for a size that is not stated.
    return (container.size or 0) > 0 and container.format.name not in _LISTS


def _stated_rate(stream: VideoStream) -> Fraction | None:
    """Return frames a second; None where FFmpeg took the ticks of a clock for them."""
    rates = stream.average_rate, stream.guessed_rate
    return next((rate for rate in rates if rate and rate <= _HIGHEST_RATE), None)


def _address_frames(
    container: InputContainer,
    stream: VideoStream,
    name: str,
    timeout: float,
    clock: Clock,
    losses: Losses,
) -> Iterator[tuple[Frame, Fraction]]:
    """Yield frames from the first whole one on, with their times.

    Damage after it is shown, as players do; packets that give no picture are counted.
    """
    picture: RgbPictures | None = None
    packets = container.demux(stream)
    with container:
        while True:
            try:
                packet = next(packets, None)
            except av.ExitError as error:
                raise stalled(name, timeout) from error
            except (av.FFmpegError, OSError) as error:
                raise EndedEarly(f"{name} broke off ({error.strerror}).") from error
            if packet is None:
                return
            try:
                decoded = stream.decode(packet)
            except av.FFmpegError:
                # Packets were lost, or it began between key frames: the next one mends it.
                losses.packets += picture is not None
                continue
            for frame in decoded:
                if picture is None and not frame.is_corrupt:
                    picture = RgbPictures((frame.width, frame.height))
                if picture:
                    yield picture(frame), clock(time_stamp(frame, stream))


STANDARD_INPUT = "standard input"


def open_raw(file: FileIO, *, size: tuple[int, int], rate: Fraction | None = None) -> Feed:
    """Read frames of three bytes a pixel: red, green, blue; rows from top to bottom, no header.

    Args:
        file: unbuffered; a pipe, or any other file.
        size: width and height of a frame.
        rate: frames a second; None for 24, as the bytes do not tell.

    Raises:
        UserError: there is not one frame.
        EndedEarly: it ends within the first frame.
    """
    frames = _pipe_frames(file, size)
    rate = rate or FALLBACK_RATE
    first = next(frames, None)
    if first is None:
        raise UserError(
            "Standard input ended before the first frame",
            "pipe rgb24 frames into it, as ffmpeg -i VIDEO -f rawvideo -pix_fmt rgb24 - does",
        )
    return Feed(first, evenly_timed(frames, rate), rate, live=False)


def _pipe_frames(file: FileIO, size: tuple[int, int]) -> Iterator[Frame]:
    width, height = size
    for index in range(sys.maxsize):
        frame = np.empty((height, width, 3), np.uint8)
        rest = frame.data.cast("B")
        try:
            while rest and (got := file.readinto(rest)):
                rest = rest[got:]
        except OSError as error:
            failed = EndedEarly if index else UserError
            raise failed(
                f"Standard input cannot be read ({error.strerror})", "pipe frames into it"
            ) from error
        if len(rest) == frame.nbytes:
            return
        if rest:
            raise EndedEarly(
                f"Standard input ended within frame {index}, after {frame.nbytes - len(rest)} "
                f"of {frame.nbytes} bytes",
                f"check that it is rgb24 of {width}x{height}, width first",
            )
        yield frame


@contextmanager
def masks_only() -> Iterator[FileIO]:
    """Keep standard output for masks alone: all other output goes to standard error.

    Yields:
        unbuffered.

    Raises:
        UserError: standard output is a terminal, or closed.
    """
    need_standard_output()
    if sys.stdout.isatty():
        raise UserError(
            "Masks are bytes that a terminal cannot show",
            "pipe them to a program or a file, or name a folder with -o",
        )
    sys.stdout.flush()
    output, error = sys.stdout.fileno(), sys.stderr.fileno()
    with FileIO(os.dup(output), "w") as file:
        os.dup2(error, output)
        try:
            yield file
        finally:
            sys.stdout.flush()
            os.dup2(file.fileno(), output)
