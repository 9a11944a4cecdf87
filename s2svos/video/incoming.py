"""Videos that arrive while they are followed: from a camera, an address or standard input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

from s2svos.pipeline import Source
from s2svos.video.decoder import Losses, frame_name
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Feed:
    """An input that has been opened and has given its first frame.

    Args:
        first: uint8 [H, W, 3] RGB, C-contiguous.
        rest: the frames after it, each of its shape, as they come, with the seconds since it at
            which they are shown, rising.
        rate: frames a second.
        live: frames come whether or not anyone takes them.
        count: frames to expect in all, or None.
        time_base: seconds of which those times are multiples; None for a frame's.
        pixel_aspect: width of a pixel in its heights.
        losses: packets that could not be decoded, so far.
    """

    first: Frame
    rest: Iterator[tuple[Frame, Fraction]]
    rate: Fraction
    live: bool
    count: int | None = None
    time_base: Fraction | None = None
    pixel_aspect: Fraction = Fraction(1)
    losses: Losses = field(default_factory=Losses)


def evenly_timed(frames: Iterable[Frame], rate: Fraction) -> Iterator[tuple[Frame, Fraction]]:
    """Yield the frames after the first with their times, at so many frames a second."""
    return ((frame, index / rate) for index, frame in enumerate(frames, 1))


class IncomingVideo:
    """The frames of an input that can be read only once, in the order of their arrival.

    Iterating yields (name, uint8 [H, W, 3] RGB, C-contiguous), as a Video does. The name is the
    count of the frames that arrived before, in five digits.

    Args:
        name: of the input, for messages and ``run.json``.
        connect: opens it; may block.
        live: whether late frames are dropped; None for what suits the input.
        end: how many frames are read; None for all.
        timeout: seconds without a frame after which the input counts as stalled.

    Attributes:
        path: the name.
        live: as given, or as it suits the input.
        width, height: in pixels.
        rate: frames a second, a Fraction.
        time_base: seconds, a Fraction, of which times are multiples.
        pixel_aspect: width of a pixel in its heights, a Fraction.
        losses: packets that could not be decoded, so far.
        doubts: none; pictures have some.
        count: frames to expect, or None.

    Raises:
        UserError: the input cannot be opened; while iterating, it broke off.
        EndedEarly: it gave no first frame in time.
    """

    doubts: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        connect: Callable[[], Feed],
        *,
        live: bool | None = None,
        end: int | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.path = name
        self.start, self.end = 0, end
        self.timeout = timeout
        # In a thread, as a call that waits for a device or a network cannot be stopped.
        (feed,) = Source((call() for call in [connect]), name=name, timeout=timeout)
        self.live = feed.live if live is None else live
        self.height, self.width = feed.first.shape[:2]
        self.rate, self.time_base = feed.rate, feed.time_base or 1 / feed.rate
        self.pixel_aspect, self.losses = feed.pixel_aspect, feed.losses
        self.count = end if feed.count is None else min(feed.count, end or feed.count)
        self._feed: Feed | None = feed

    def __iter__(self) -> Iterator[tuple[str, Frame]]:
        return ((name, frame) for name, frame, _ in self.timed())

    def timed(self) -> Iterator[tuple[str, Frame, Fraction]]:
        """Yield names and frames as iterating does, and when each is shown, in rising seconds."""
        if self._feed is None:
            raise UserError(f"{self.path} can be read only once", "open it again")
        feed, self._feed = self._feed, None
        yield frame_name(0), feed.first, Fraction(0)
        # Cut off before the next one is asked for, which may be long in coming.
        rest = islice(feed.rest, None if self.end is None else self.end - 1)
        for index, (frame, time) in enumerate(rest, 1):
            yield frame_name(index), frame, time
