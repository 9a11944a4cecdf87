"""From a video and the mask of its first frame to the masks of all its frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2svos import __version__
from s2svos.video.masks import FirstMask, write_mask
from s2svos.video.overlay import paint
from s2svos.video.read import TruncatedVideo, Video
from s2svos.video.results import Results, disk_errors
from s2svos.video.stages import Sink, Source
from s2svos.video.write import VideoWriter
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos.adapt.config import Adaptation
    from s2svos_engines.tracker import Stream, Tracker

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Ids = NDArray[np.uint8]  # [H, W] object ids, 0 for the background


@dataclass(frozen=True)
class InferProgress:
    """How far a run is.

    Args:
        frames: done so far.
        expected: in all, or None where the video does not say.
        rate: frames a second since the first one.
        seconds_left: at that rate, or None where it is not known.
    """

    frames: int
    expected: int | None
    rate: float
    seconds_left: float | None


@dataclass(frozen=True)
class Seconds:
    """Where the time went; stages overlap, so they may add up to more than ``total``.

    Args:
        total: from the call to the last file.
        load: opening the bundle on the engine.
        decode, step, write_masks, overlay: time in which that stage was busy.
        first_mask: from the call to the network's first mask; None if it made none.
    """

    total: float
    load: float
    decode: float
    step: float
    write_masks: float
    overlay: float
    first_mask: float | None


@dataclass(frozen=True)
class RunSummary:
    """What a run did; ``run.json`` holds the same.

    Args:
        video, mask: what was read.
        bundle, bundle_sha256, engine: what segmented it.
        frames: masks written.
        size: width and height.
        rate: frames a second of the video.
        start, end: as they were asked for.
        complete: False where the run ended early.
        truncated: the video ended early.
        seconds: where the time went.
        adapted: how the network was tuned to the first frame; None if it was not.
        version: of s2svos.
        masks, overlay: where the results are.
    """

    video: str
    mask: str
    bundle: str
    bundle_sha256: str
    engine: str
    frames: int
    size: tuple[int, int]
    rate: float
    start: int
    end: int | None
    complete: bool
    truncated: bool
    seconds: Seconds
    adapted: Adaptation | None
    version: str
    masks: str
    overlay: str | None


def default_out(video: str | Path) -> Path:
    """Where results go if nothing is said: a folder here, named after the video."""
    path = Path(video).resolve()
    name = path.name if path.is_dir() else path.stem
    return Path(f"{name}-s2svos" if Path(name).resolve() == path else name)


def infer(
    video: Video,
    first: FirstMask,
    tracker_loader: Callable[[], Tracker],
    *,
    out: Path,
    overlay: bool = True,
    overwrite: bool = False,
    adapt: Callable[[Tracker, Frame, Ids], tuple[Tracker, Adaptation]] | None = None,
    report: Callable[[InferProgress], None] | None = None,
) -> RunSummary:
    """Follows the objects of the first mask to the end of the video.

    Writes ``out/masks/<frame>.png`` with the first mask's ids and palette, ``out/overlay.mp4`` and
    ``out/run.json``. If it ends early, by an error or Ctrl-C, what is whole is kept and the overlay
    is finished; if there is no mask yet, nothing is left behind.

    Args:
        video: to segment.
        first: the objects on its first frame.
        tracker_loader: opens the tracker; called while the first frames are decoded.
        out: folder for the results; missing or empty, unless ``overwrite``.
        overlay: also make ``overlay.mp4``.
        overwrite: replace an earlier run's files in ``out``.
        adapt: tunes the tracker to the first frame and its ids before they are followed.
        report: called after every frame.

    Raises:
        UserError: the folder cannot be used or written, the mask does not fit, the video is broken.
        TruncatedVideo: the video was cut off; all before the cut is written.
    """
    if first.ids.shape != (video.height, video.width):
        raise UserError(
            f"The first mask is {first.ids.shape[1]}x{first.ids.shape[0]}, but the video is "
            f"{video.width}x{video.height}; make the mask on the video's own first frame."
        )
    results = Results(out, overwrite=overwrite, inputs=(video.path, first.path))
    return _Run(video, first, results, adapt, report).run(tracker_loader, overlay)


class _Run:
    """One call of ``infer``: decode -> step (this thread) -> write masks, and paint and encode."""

    def __init__(
        self,
        video: Video,
        first: FirstMask,
        results: Results,
        adapt: Callable[[Tracker, Frame, Ids], tuple[Tracker, Adaptation]] | None,
        report: Callable[[InferProgress], None] | None,
    ) -> None:
        self.video = video
        self.first = first
        self.results = results
        self.adapt = adapt
        self.report = report
        self.adapted: Adaptation | None = None
        self.began = time.perf_counter()
        self.seconds_loading = self.seconds_stepping = self.seconds_closing = 0.0
        self.first_mask: float | None = None
        self.encoder: VideoWriter | None = None
        self.painter: Sink[tuple[Frame, Ids]] | None = None

    def run(self, tracker_loader: Callable[[], Tracker], overlay: bool) -> RunSummary:
        """Runs the stages; whatever ends them, what is whole is finished."""
        self.decoder = Source(self.video)
        self.writer = Sink(self._write)
        error: BaseException | None = None
        tracker: Tracker | None = None
        try:
            tracker = self._load(tracker_loader)
            self._follow(tracker, overlay)
        except BaseException as raised:  # Ctrl-C too: what is whole is kept
            error = raised
        error = self._finish(error)
        if tracker is None or not self.writer.done:
            self._discard()
            raise error or UserError(f"{self.video.path} holds no frames; name another video.")
        summary = self._summary(tracker, error)
        try:
            self.results.write_run(_facts(summary))
        except UserError as failed:
            error = error or failed
        if error:
            raise error
        return summary

    def _load(self, tracker_loader: Callable[[], Tracker]) -> Tracker:
        began = time.perf_counter()
        tracker = tracker_loader()
        self.seconds_loading = time.perf_counter() - began
        return tracker

    def _follow(self, tracker: Tracker, overlay: bool) -> None:
        stream: Stream | None = None
        first_done = 0.0
        for done, (name, frame) in enumerate(self.decoder, 1):
            if stream is None and self.adapt:
                tracker, self.adapted = self.adapt(tracker, frame, self.first.ids)
            began = time.perf_counter()
            if stream is None:
                stream = tracker.open(frame, self.first.ids)
                ids = self.first.ids
            else:
                ids = stream.step(frame)
            now = time.perf_counter()
            self.seconds_stepping += now - began
            if done == 1:
                first_done = now
                self.results.create()
                self._open_overlay(overlay)
            elif done == 2:
                self.first_mask = now - self.began
            self.writer.put((name, ids))
            if self.painter:
                self.painter.put((frame, ids))
            if self.report:
                self.report(_progress(done, self.video.count, now - first_done))

    def _open_overlay(self, wanted: bool) -> None:
        if not wanted:
            return
        with disk_errors(self.results.out):
            self.encoder = VideoWriter(
                self.results.overlay,
                width=self.video.width,
                height=self.video.height,
                rate=self.video.rate,
            )
        self.painter = Sink(self._paint)

    def _write(self, item: tuple[str, Ids]) -> None:
        name, ids = item
        with disk_errors(self.results.out):
            write_mask(self.results.masks / f"{name}.png", ids, self.first.palette)

    def _paint(self, item: tuple[Frame, Ids]) -> None:
        assert self.encoder is not None
        with disk_errors(self.results.out):
            self.encoder.write(paint(*item, self.first.palette))

    def _finish(self, error: BaseException | None) -> BaseException | None:
        """Ends every stage; gives the first error of all."""
        self.decoder.stop()
        failures = [error, self.writer.drain()]
        if self.painter:
            failures.append(self.painter.drain())
        if self.encoder:
            began = time.perf_counter()
            try:
                with disk_errors(self.results.out):
                    self.encoder.close(keep=self.writer.done > 0)
            except UserError as failed:
                failures.append(failed)
            self.seconds_closing = time.perf_counter() - began
        return next((failure for failure in failures if failure), None)

    def _discard(self) -> None:
        with disk_errors(self.results.out):
            self.results.discard()

    def _summary(self, tracker: Tracker, error: BaseException | None) -> RunSummary:
        seconds = Seconds(
            total=time.perf_counter() - self.began,
            load=self.seconds_loading,
            decode=self.decoder.seconds,
            step=self.seconds_stepping,
            write_masks=self.writer.seconds,
            overlay=(self.painter.seconds if self.painter else 0.0) + self.seconds_closing,
            first_mask=self.first_mask,
        )
        return RunSummary(
            video=str(self.video.path),
            mask=str(self.first.path),
            bundle=str(tracker.bundle.path),
            bundle_sha256=tracker.bundle.sha256,
            engine=tracker.engine_name,
            frames=self.writer.done,
            size=(self.video.width, self.video.height),
            rate=float(self.video.rate),
            start=self.video.start,
            end=self.video.end,
            complete=error is None,
            truncated=isinstance(error, TruncatedVideo),
            seconds=seconds,
            adapted=self.adapted,
            version=__version__,
            masks=str(self.results.masks),
            overlay=str(self.results.overlay) if self.results.overlay.exists() else None,
        )


def _facts(summary: RunSummary) -> dict[str, Any]:
    """What ``run.json`` holds: the summary, its seconds down to the tenth of a millisecond."""
    facts = asdict(summary)
    facts["seconds"] = {key: value and round(value, 4) for key, value in facts["seconds"].items()}
    return facts


def _progress(frames: int, expected: int | None, seconds: float) -> InferProgress:
    rate = (frames - 1) / seconds if frames > 1 and seconds > 0 else 0.0
    left = None if expected is None or not rate else max(0, expected - frames) / rate
    return InferProgress(frames, expected, rate, left)
