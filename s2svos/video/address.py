"""Streams and files at an address: rtsp, http, udp, tcp, rtmp and what else FFmpeg reads."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from s2svos.video.decode import FALLBACK_RATE, RgbPictures, frame_count, video_stream
from s2svos.video.errors import EndedEarly, stalled
from s2svos.video.incoming import Feed
from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
# UDP loses packets without notice, and FFmpeg would try it first.
_OPTIONS = {"rtsp_flags": "prefer_tcp"}
_LISTS = {"hls", "dash", "sdp"}  # formats of small files that say where the video is
_HIGHEST_RATE = 1000  # frames a second; the clock of a live stream ticks 90000 times


def address_name(address: str) -> str:
    """What messages and ``run.json`` call a stream: its address without user and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def open_address(address: str, *, timeout: float, rate: Fraction | None = None) -> Feed:
    """Opens a stream and decodes its first frame.

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
        container = av.open(address, timeout=timeout, options=_OPTIONS)
    except av.ExitError as error:
        raise stalled(name, timeout) from error
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{name} cannot be opened ({error.strerror}); check the address, and that whoever "
            "sends is running."
        ) from error
    stream = video_stream(container)
    if not stream:
        raise UserError(f"{name} holds no video; name the address of a video.")
    live = not _states_length(container)
    # Threads that decode a frame each hold back as many frames as there are threads.
    stream.thread_type = "SLICE" if live else "AUTO"
    frames = _frames(container, stream, name, timeout)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{name} ended before its first whole frame; check that it plays.")
    rate = rate or _stated_rate(stream) or FALLBACK_RATE
    return Feed(first, frames, rate, live, frame_count(container, stream, rate))


def _states_length(container: InputContainer) -> bool:
    """Whether it says how long it is, in seconds or in bytes."""
    if container.duration is not None:
        return True
    return container.size > 0 and container.format.name not in _LISTS


def _stated_rate(stream: VideoStream) -> Fraction | None:
    """Frames a second; None where FFmpeg took the ticks of a clock for them."""
    rates = stream.average_rate, stream.guessed_rate
    return next((rate for rate in rates if rate and rate <= _HIGHEST_RATE), None)


def _frames(
    container: InputContainer, stream: VideoStream, name: str, timeout: float
) -> Iterator[Frame]:
    """Pictures from the first whole one on; damage after it is shown, as every player does."""
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
                continue  # packets were lost, or it began between key frames: the next one mends it
            for frame in decoded:
                if picture is None and not frame.is_corrupt:
                    picture = RgbPictures((frame.width, frame.height))
                if picture:
                    yield picture(frame)
