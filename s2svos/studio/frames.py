"""Single frames of a video, wherever one looks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from s2svos.video.reader import Video
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

KEPT = 1 << 28  # bytes of frames that were looked at lately
AHEAD = 100  # frames that are decoded on the way to one rather than looking for a key frame
BEHIND = 24  # frames before one that are kept with it: who goes back goes on to go back


class Frames:
    """Frames by their index; those seen lately are kept, up to :data:`KEPT` bytes.

    A video file is decoded from a key frame, or from where the last look ended.

    Args:
        video: from its first frame.
    """

    def __init__(self, video: Video) -> None:
        self._video = video
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._most = max(8, KEPT // (3 * video.width * video.height))
        self._reading: Iterator[tuple[str, Frame]] | None = None
        self._next = 0
        self._lock = Lock()

    def __getitem__(self, index: int) -> Frame:
        """Return a frame, uint8 [H, W, 3] RGB.

        Raises:
            UserError: the video has no such frame, or it cannot be read.
        """
        with self._lock:
            if index not in self._kept:
                self._read_to(index)
            self._kept.move_to_end(index)
            return self._kept[index]

    def keep(self, index: int, frame: Frame) -> None:
        """Keep a frame that was decoded elsewhere, for the looks to come."""
        with self._lock:
            self._kept[index] = frame
            self._drop()

    def _drop(self) -> None:
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _read_to(self, index: int) -> None:
        if self._reading is None or not self._next <= index < self._next + AHEAD:
            self._next = max(0, index - min(BEHIND, self._most - 1))
            self._reading = iter(self._video.part(self._next, None))
        for _, frame in self._reading:
            self._kept[self._next] = frame
            self._next += 1
            self._drop()
            if self._next > index:
                return
        self._reading = None
        raise UserError(f"{self._video.path} has no frame {index}", "choose a smaller number")
