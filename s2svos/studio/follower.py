"""Following in the background: what the page asks for, stretch by stretch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from s2svos.studio.frames import Frames
from s2svos.studio.project import Project
from s2svos.video.reader import backwards
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Stream, Tracker


@dataclass(frozen=True)
class Stretch:
    """Frames to follow.

    Args:
        start: whose mask is there.
        last: to be followed, on either side of ``start``.
    """

    start: int
    last: int

    def __len__(self) -> int:
        return abs(self.last - self.start)


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Args:
        running: whether frames are being followed.
        frame: that was done last; -1 before the first.
        done, total: frames.
        rate: frames a second.
        error: the sentence that ended it; empty if none did.
    """

    running: bool = False
    frame: int = -1
    done: int = 0
    total: int = 0
    rate: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


def plan(given: list[int], count: int) -> list[Stretch]:
    """Plan how all frames are followed: each from the nearest painted one.

    Args:
        given: painted frames, rising.
        count: frames of the video.
    """
    stretches = []
    for index, start in enumerate(given):
        before = given[index - 1] if index else None
        after = given[index + 1] if index + 1 < len(given) else None
        first = 0 if before is None else before + (start - before) // 2 + 1
        last = count - 1 if after is None else start + (after - start) // 2
        stretches += [Stretch(start, last), Stretch(start, first)]
    return [one for one in stretches if len(one)]


class Follower:
    """Follows stretches in a thread, one order at a time.

    Args:
        project: has the painted masks, takes the followed ones.
        frames: of the video.
        load: opens the tracker, when it is first needed.
    """

    def __init__(self, project: Project, frames: Frames, load: Callable[[], Tracker]) -> None:
        self._project, self._frames, self._load = project, frames, load
        self._tracker: Tracker | None = None
        self._loading = Lock()
        self._stop = Event()
        self._thread: Thread | None = None
        self.progress = Progress()

    @property
    def tracker(self) -> Tracker:
        """The tracker, loaded once."""
        with self._loading:
            self._tracker = self._tracker or self._load()
            return self._tracker

    def start(self, stretches: list[Stretch]) -> None:
        """Follow stretches, after stopping what is under way.

        Raises:
            UserError: a stretch begins where no mask is, or there is nothing to follow.
        """
        self.stop()
        if not stretches:
            raise UserError("There is nothing to follow", "paint an object first")
        for one in stretches:
            mask = self._project.mask(one.start)
            if mask is None or not mask.any():
                raise UserError(
                    f"Frame {one.start} has no mask to follow from", "paint an object on it"
                )
        self._stop.clear()
        self.progress = Progress(running=True, total=sum(map(len, stretches)))
        self._thread = Thread(target=self._run, args=(stretches,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the frames that are under way; what was followed is kept."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _run(self, stretches: list[Stretch]) -> None:
        done, began, error = 0, time.perf_counter(), ""
        frame = -1
        try:
            for frame in chain.from_iterable(map(self._follow, stretches)):
                done += 1
                rate = done / (time.perf_counter() - began)
                total = self.progress.total
                self.progress = Progress(True, frame, done, total, rate)
        except UserError as failed:
            error = str(failed)
        except Exception as failed:  # of whatever type the engine's library has
            error = f"Following failed with {type(failed).__name__}: {failed}"
        try:
            self._project.save_confidence()
        except UserError as failed:
            error = error or str(failed)
        rate = done / max(time.perf_counter() - began, 1e-9)
        self.progress = Progress(False, frame, done, self.progress.total, rate, error)

    def _follow(self, stretch: Stretch) -> Iterator[int]:
        """Follow one stretch, and yield the index of each frame that is done."""
        mask = self._project.mask(stretch.start)
        assert mask is not None
        stream = self.tracker.open(self._frames[stretch.start], mask)
        forwards = stretch.last > stretch.start
        given = sorted(
            (i for i in self._project.given if min(stretch.start, stretch.last) < i
             <= max(stretch.start, stretch.last) and i != stretch.start),
            reverse=not forwards,
        )  # fmt: skip
        step = 1 if forwards else -1
        at = stretch.start
        pictures = self._pictures(stretch)
        for index in [*given, None]:
            # Up to a painted frame several calls are under way; there, all has to be done.
            last = stretch.last if index is None else index - step
            yield from self._follow_to(stream, pictures, at, last, step)
            if index is None or self._stop.is_set():
                return
            if (frame := next(pictures, None)) is None:
                return
            stream.step(frame)
            painted = self._project.mask(index)
            if painted is not None:
                stream.correct(frame, painted)
            at = index
            yield index

    def _follow_to(
        self, stream: Stream, pictures: Iterator[Frame], at: int, last: int, step: int
    ) -> Iterator[int]:
        def wanted() -> Iterator[Frame]:
            for index in range(at + step, last + step, step):
                if self._stop.is_set() or (frame := next(pictures, None)) is None:
                    return
                self._frames.keep(index, frame)
                yield frame

        for number, labels in enumerate(stream.follow(wanted()), 1):
            index = at + step * number
            sure = {one: found.certainty for one, found in stream.confidence.items()}
            self._project.follow(index, labels, sure)
            yield index

    def _pictures(self, stretch: Stretch) -> Iterator[Frame]:
        video = self._project.video
        if stretch.last > stretch.start:
            part = video.part(stretch.start + 1, stretch.last + 1)
            return (frame for _, frame in part)
        return backwards(video.part(stretch.last, stretch.start))
