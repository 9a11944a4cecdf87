"""From a video and the mask of its first frame to the masks of all its frames."""

from __future__ import annotations

import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from s2svos import __version__
from s2svos.inference.objects import ObjectRecords
from s2svos.inference.outputs import FolderOutput, PipeOutput, ResultsFolder, Save
from s2svos.inference.state import PORTION, STATE, Clock, RunState, digest
from s2svos.inference.summary import InferProgress, RunSummary, Seconds
from s2svos.interrupt import Interrupt
from s2svos.locks import locked_folder
from s2svos.pipeline import EndedEarly, Source, StageFailed
from s2svos.saving.formats import check_formats, files_of, of_network
from s2svos.saving.frame import SavedFrame
from s2svos.video.first_frame import MaskFrame
from s2svos.video.incoming import IncomingVideo
from s2svos.video.masks import FirstMask
from s2svos.video.reader import Video, backwards
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Stream, Tracker

Shown = tuple[str, Frame, Fraction]
"""A frame's name and picture, and the seconds from the video's beginning at which it is shown."""

__all__ = ["InferProgress", "RunSummary", "Seconds", "default_out", "infer"]


def default_out(video: str | Path) -> Path:
    """Return the default folder for results: in the working folder, named after the video."""
    path = Path(video).resolve()
    name = path.name if path.is_dir() else path.stem
    return Path(f"{name}-s2svos" if Path(name).resolve() == path else name)


def infer(
    video: Video | IncomingVideo,
    first: FirstMask,
    tracker_loader: Callable[[], Tracker],
    *,
    out: Path | FileIO,
    mask_frame: MaskFrame | None = None,
    later: Mapping[int, FirstMask] = MappingProxyType({}),
    before: Video | None = None,
    snap: bool = False,
    overlay: bool = True,
    save: Sequence[str] = (),
    refine: bool = False,
    names: Mapping[int, str] = MappingProxyType({}),
    overwrite: bool = False,
    resume: bool = False,
    report: Callable[[InferProgress], None] | None = None,
) -> RunSummary:
    """Follow the objects of the first mask to the end of the video, and back to its beginning.

    Writes ``out/masks/<frame>.png`` with the first mask's ids and palette, ``out/overlay.mp4`` and
    ``out/run.json``, or bare masks to a file. If it ends early, by an error or Ctrl-C, what is
    whole is kept and the overlay is finished; the error's notes say where. If there is no mask yet,
    nothing is left behind. Frames of a live video that come faster than they are followed are
    dropped and counted, and Ctrl-C is how such a run ends: then it is no error. Frames of any other
    video are followed as many at a time as the bundle has a step graph for, and those of a file
    with several calls of the engine under way.

    Args:
        video: to segment.
        first: the objects on its first frame.
        tracker_loader: opens the tracker; called while the first frames are decoded.
        out: folder for the results; missing or empty, unless ``overwrite``. Or an unbuffered file
            that takes uint8 [H, W] ids, one mask after the other, and nothing else.
        mask_frame: the picture that the first mask was drawn on, if that is not the video's first
            frame: then all of the video's frames are followed from it.
        later: corrections, by the index of their frame in the whole video: where their objects are
            from there on, and objects that enter there. Of a file or folder alone.
        before: the frames before the first one of ``video``, which are followed backwards from it;
            their masks wait in memory (some 3 kB each) and are written first.
        snap: let the network draw the edges of the given masks.
        overlay: also make ``overlay.mp4``, in a folder.
        save: other formats to make in a folder, of :data:`~s2svos.saving.formats.FORMATS`.
        refine: have the soft edges of those that show them follow the picture's.
        names: what objects are called, by id, where the masks' files do not say it, or otherwise.
        overwrite: replace earlier runs' files in ``out``, and no others.
        resume: go on with an earlier run of the same settings in ``out`` that ended early; its
            masks are those of an undisturbed run, bit by bit where the engine is on a CPU. Where
            there is none that can go on, begin, and replace what there is of it.
        report: called after every frame.

    Raises:
        UserError: the folder cannot be used or written or is another run's, the mask does not fit,
            the video is broken, or the engine or a thread of the run died.
        EndedEarly: the video was cut off or stalled; all before that is written.
        Finished: ``resume``, and all is done.
    """
    if first.ids.shape != (video.height, video.width):
        raise UserError(
            (
                f"The first mask is {first.ids.shape[1]}x{first.ids.shape[0]}, but the video is "
                f"{video.width}x{video.height}"
            ),
            "make the mask on the video's own first frame",
        )
    check_formats(save)
    names = {
        **{one: name for mask in (first, *later.values()) for one, name in mask.names.items()},
        **names,
    }
    given = _Given(first, mask_frame, dict(sorted(later.items())), before, snap, names)
    if not isinstance(out, Path):
        return _Run(video, given, PipeOutput(out), report).run(tracker_loader)
    others = [one.path for one in (*later.values(), *([mask_frame] if mask_frame else ()))]
    with locked_folder(out):
        begun = before or video
        state = _earlier_state(out, begun, save) if resume else None
        ids = {one for mask in (first, *later.values()) for one in mask.objects}
        wanted = Save(tuple(save), tuple(sorted(ids)), names, refine)
        results = ResultsFolder(
            out,
            overwrite=overwrite or resume,
            overlay=overlay,
            saved=files_of(save, wanted.objects),
            inputs=(Path(video.path), first.path, *others),
            kept=_names(begun, state.done) if state else (),
        )
        output = FolderOutput(results, first.palette, overlay=overlay, save=wanted)
        return _Run(video, given, output, report, state).run(tracker_loader)


class Finished(UserError):
    """There is nothing to go on with: the earlier run did all."""

    exit_code = 0


def _earlier_state(out: Path, video: Video | IncomingVideo, save: Sequence[str]) -> RunState | None:
    """Return what a run in a folder goes on from; None to begin anew, as where masks are missing.

    Raises:
        Finished: the run that wrote the folder did all.
        UserError: the input comes only once.
    """
    if not isinstance(video, Video):
        raise UserError(f"{video.path} comes only once", "--resume is for files and folders")
    with suppress(OSError, ValueError, AttributeError):
        if json.loads((out / "run.json").read_bytes()).get("complete") is True:
            raise Finished(f"{out} holds the whole result", "begin anew with --overwrite")
    state = RunState.read(out / STATE)
    if state is None or of_network(save):
        return None
    masks = (out / "masks" / f"{name}.png" for name in _names(video, state.done))
    return state if all(path.is_file() for path in masks) else None


def _names(begun: Video | IncomingVideo, done: int) -> list[str]:
    assert isinstance(begun, Video)
    return [begun.name(begun.start + index) for index in range(done)]


class StageTimer:
    """Measures the time in which a stage is busy, without what it waits for.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._paused = 0.0

    @contextmanager
    def run(self) -> Iterator[None]:
        """Count the time of a block, less that of :meth:`pause` within."""
        began, paused = time.perf_counter(), self._paused
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began - (self._paused - paused)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the time of a block out."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began


class _Given(NamedTuple):
    """What says where the objects are; see :func:`infer`."""

    first: FirstMask
    mask_frame: MaskFrame | None
    later: dict[int, FirstMask]
    before: Video | None
    snap: bool
    names: Mapping[int, str]


class _Run:
    """One call of ``infer``: decode -> step (this thread) -> write masks, and paint and encode."""

    def __init__(
        self,
        video: Video | IncomingVideo,
        given: _Given,
        output: FolderOutput | PipeOutput,
        report: Callable[[InferProgress], None] | None,
        state: RunState | None = None,
    ) -> None:
        self.video = video
        self.given = given
        self.begun = given.before or video
        self.state = state
        self.done = state.done if state else 0  # frames that were handed to the output
        self.opened = False  # whether the output has begun
        self.next_state = Clock()
        self.first = given.first
        self.mask_frame = given.mask_frame
        self.output = output
        self.report = report
        self.frames_per_call = 1
        self.began = time.perf_counter()
        self.seconds_loading = 0.0
        self.seconds_to_first_mask: float | None = None
        self.stepping = StageTimer()
        self.objects = ObjectRecords.from_json(state.objects) if state else ObjectRecords()

    def run(self, tracker_loader: Callable[[], Tracker]) -> RunSummary:
        """Run the stages; whatever ends them, what is whole is finished."""
        if self.state:
            assert isinstance(self.video, Video)
            self.video = self.video.part(self.begun.start + self.state.done, self.video.end)
        self.reader = Source(
            self.video.timed(),
            name=str(self.video.path),
            newest=self.video.live,
            timeout=self.video.timeout,
        )
        error: BaseException | None = None
        tracker: Tracker | None = None
        try:
            tracker = self._load(tracker_loader)
            self._follow(tracker)
        except BaseException as raised:  # Ctrl-C too: what is whole is kept
            error = raised
        with Interrupt() as late:  # what is whole is finished first
            summary = self._finish(tracker, error)
        if late.wanted:
            stopped = KeyboardInterrupt()
            stopped.add_note(summary.tally())
            raise stopped
        return summary

    def _finish(self, tracker: Tracker | None, error: BaseException | None) -> RunSummary:
        """Finish what is whole, and raise the error, if there is one."""
        self.reader.stop()
        failures = self.output.finish()
        if isinstance(error, KeyboardInterrupt) and self.video.live and self.output.done:
            error = None
        error = error or next(iter(failures), None)
        if tracker is None or not self.opened or not self.output.done:
            self.output.discard()
            if isinstance(error, StageFailed):
                error.exit_code = UserError.exit_code  # there is nothing that was cut off
            raise error or UserError(f"{self.video.path} holds no frames", "name another video")
        summary = self._summary(tracker, error)
        try:
            self.output.conclude(summary.facts())
        except UserError as failed:
            error = error or failed
        if error:
            error.add_note(summary.tally())
            raise error
        return summary

    def _load(self, tracker_loader: Callable[[], Tracker]) -> Tracker:
        began = time.perf_counter()
        tracker = tracker_loader()
        if not self.video.live:
            tracker.engine.expect(len(self.first.objects))
        self.seconds_loading = time.perf_counter() - began
        return tracker

    def _follow(self, tracker: Tracker) -> None:
        """Hand every frame's mask to the output, and report progress."""
        first_done = 0.0
        expected = self.video.count
        if expected is not None:
            expected += self.video.start - self.begun.start
        self.settings = self._settings(tracker)
        if self.state:
            if self.state.settings != self.settings:
                raise UserError(
                    "The run that ended early was of other options, masks, video or engine",
                    "give the same as then, or begin anew with --overwrite",
                )
            self._begin_again()
        before = self.done
        for shown in self._masks(tracker):
            if not self.opened:
                self._begin_output()
            if self.done == before:
                first_done = time.perf_counter()
            self.output.put(shown)
            self.done += 1
            if self.report:
                self.report(
                    InferProgress.after(
                        self.done,
                        before=before,
                        expected=expected,
                        seconds=time.perf_counter() - first_done,
                        dropped=self.reader.dropped,
                    )
                )

    def _begin_again(self) -> None:
        """Hand the frames that are done to what shows them."""
        self._begin_output()
        assert isinstance(self.begun, Video)
        if self.output.shows:
            for shown in self.begun.part(self.begun.start, self.video.start).timed():
                self.output.put_again(_drawn(shown, self.first.ids))

    def _begin_output(self) -> None:
        self.output.begin(self.video)
        self.opened = True

    def _settings(self, tracker: Tracker) -> dict[str, Any]:
        """Return what the masks depend on, as JSON types."""
        path, given = Path(self.video.path), self.given
        return {
            "video": path.name,
            "bytes": path.stat().st_size if path.is_file() else None,
            "size": [self.video.width, self.video.height],
            "start": self.begun.start,
            "end": self.video.end,
            "mask": digest(self.first.ids),
            "mask_frame": digest(self.mask_frame.frame) if self.mask_frame else None,
            "later": {str(index): digest(one.ids) for index, one in given.later.items()},
            "before": given.before is not None,
            "snap": given.snap,
            "bundle": tracker.bundle.sha256,
            "engine": tracker.engine.title,
            "precision": tracker.engine.precision,
            "window": str(tracker.window),
            "version": __version__,
        }

    def _masks(self, tracker: Tracker) -> Iterator[SavedFrame]:
        """Yield every frame that is read with its labels."""
        frames = iter(self.reader)
        index = self.video.start
        if self.state:
            with self._engine(tracker.engine_name):
                stream = tracker.restore(self.state.stream)
            self._note_frames_per_call(tracker)
            index -= 1  # of the frame that is done
        elif self.mask_frame:
            stream = self._open(tracker, self.mask_frame.frame, self.first.ids)
            index -= 1  # of the frame that is done
        else:
            if (first := next(frames, None)) is None:
                return
            drawn = self._snapped(tracker, first[1], self.first.ids)
            if self.given.before:
                yield from self._backwards(tracker, self.given.before, first[1], drawn)
            stream = self._open(tracker, first[1], drawn)
            yield _drawn(first, drawn)
        taken: deque[Shown] = deque()  # whose labels are not there yet
        source = self._take(frames, taken)
        for at, mask in self.given.later.items():
            if at <= index:  # an earlier run has used it
                continue
            yield from self._follow_on(tracker, stream, source, taken, at - index - 1)
            if (shown := next(frames, None)) is None:
                raise EndedEarly(
                    f"{self.video.path} ended before frame {at}, whose mask {mask.path} was not "
                    "used.",
                )
            with self._engine(tracker.engine_name):
                stream.step(shown[1])
            drawn = self._snapped(tracker, shown[1], mask.ids)
            with self._engine(tracker.engine_name):
                stream.correct(shown[1], drawn)
            yield self._followed(shown, stream.labels, stream)
            index = at
        yield from self._follow_on(tracker, stream, source, taken)

    def _follow_on(
        self,
        tracker: Tracker,
        stream: Stream,
        frames: Iterator[Frame],
        taken: deque[Shown],
        count: int | None = None,
    ) -> Iterator[SavedFrame]:
        """Follow so many frames, or all, in portions after which the state is the stream's alone.

        Portions begin at the same frames in every run: where all calls are waited for, a window
        may move that else would move a frame later.
        """
        left = count
        while left != 0:
            portion = PORTION - self.done % PORTION
            portion = portion if left is None else min(portion, left)
            before = self.done
            yield from self._follow_some(tracker, stream, islice(frames, portion), taken)
            if self.done - before < portion:
                return
            left = None if left is None else left - portion
            # Only where more follows, which a run that goes on has to find.
            if left == 0 or (following := next(frames, None)) is None:
                return
            frames = chain([following], frames)
            if not self.video.live and self.next_state.due():
                self.output.put_state(
                    RunState(self.settings, self.done, self.objects.to_json(), stream.snapshot())
                )

    def _follow_some(
        self, tracker: Tracker, stream: Stream, frames: Iterator[Frame], taken: deque[Shown]
    ) -> Iterator[SavedFrame]:
        followed = self._labels(stream, frames)
        while True:
            with self._engine(tracker.engine_name):
                labels = next(followed, None)
            if labels is None:
                return
            if self.seconds_to_first_mask is None:
                self.seconds_to_first_mask = time.perf_counter() - self.began
            shown = taken.popleft()
            self.objects.add(shown[0], stream.confidence)
            yield self._followed(shown, labels, stream)

    def _followed(self, shown: Shown, labels: Labels, stream: Stream) -> SavedFrame:
        return SavedFrame(
            *shown[:2],
            labels,
            shown[2],
            soft=stream.soft_masks() if self.output.soft else None,
            objects=tuple(stream.ids.tolist()),
            confidence={one: sure.certainty for one, sure in stream.confidence.items()},
        )

    def _backwards(
        self, tracker: Tracker, before: Video, frame: Frame, drawn: Labels
    ) -> Iterator[SavedFrame]:
        """Follow the frames before the first, the last of them first, and yield them in order."""
        stream = self._open(tracker, frame, drawn)
        packed: list[bytes] = []
        for earlier in backwards(before):
            with self._engine(tracker.engine_name):
                labels = stream.step(earlier)
            soft = stream.soft_masks() if self.output.soft else np.zeros(0, np.uint8)
            packed.append(zlib.compress(labels.tobytes() + soft.tobytes(), 1))
        for shown in before.timed():
            if not packed:
                return
            data = np.frombuffer(zlib.decompress(packed.pop()), np.uint8)
            ids, rest = data[: drawn.size].reshape(drawn.shape), data[drawn.size :]
            yield SavedFrame(
                *shown[:2],
                ids,
                shown[2],
                soft=rest.reshape(-1, *drawn.shape) if self.output.soft else None,
                objects=tuple(stream.ids.tolist()),
            )

    def _snapped(self, tracker: Tracker, frame: Frame, ids: Labels) -> Labels:
        if not self.given.snap:
            return ids
        with self._engine(tracker.engine_name):
            return tracker.snap(frame, ids)

    def _labels(self, stream: Stream, frames: Iterator[Frame]) -> Iterator[Labels]:
        if self.video.live:  # whose masks would be late by the frames that a call waits for
            return map(stream.step, frames)
        # A sender on a pipe may wait for a mask before it sends the next frame.
        return stream.follow(frames, max_in_flight=None if isinstance(self.video, Video) else 1)

    def _take(self, frames: Iterator[Shown], taken: deque[Shown]) -> Iterator[Frame]:
        """Yield frames for the engine, whose time does not include the wait for them."""
        while True:
            with self.stepping.pause():
                item = next(frames, None)
            if item is None:
                return
            taken.append(item)
            yield item[1]

    def _open(self, tracker: Tracker, frame: Frame, ids: Labels) -> Stream:
        with self._engine(tracker.engine_name):
            stream = tracker.open(frame, ids)
        self._note_frames_per_call(tracker)
        return stream

    def _note_frames_per_call(self, tracker: Tracker) -> None:
        if not self.video.live:
            self.frames_per_call = max(tracker.engine.frames_per_call)

    @contextmanager
    def _engine(self, name: str) -> Iterator[None]:
        """Time an engine's work; an error of its library ends the run as a thread's death does."""
        with self.stepping.run():
            try:
                yield
            except UserError:
                raise
            except Exception as error:  # of whatever type the engine's library has
                raise StageFailed.of(f"Following with {name}", error) from error

    def _summary(self, tracker: Tracker, error: BaseException | None) -> RunSummary:
        seconds = Seconds(
            total=time.perf_counter() - self.began,
            load=self.seconds_loading,
            decode=self.reader.seconds,
            step=self.stepping.seconds,
            write_masks=self.output.seconds,
            overlay=self.output.overlay_seconds,
            first_mask=self.seconds_to_first_mask,
        )
        return RunSummary(
            video=str(self.video.path),
            mask=str(self.first.path),
            later_masks={index: str(one.path) for index, one in self.given.later.items()},
            objects=self.objects.summaries(self.given.names),
            mask_frame=str(self.mask_frame.path) if self.mask_frame else None,
            bundle=str(tracker.bundle.path),
            bundle_sha256=tracker.bundle.sha256,
            engine=tracker.engine.title,
            precision=tracker.engine.precision,
            window=tracker.window,
            frames_per_call=self.frames_per_call,
            frames=self.output.done,
            dropped=self.reader.dropped if self.video.live else None,
            damaged=self.video.losses.packets,
            size=(self.video.width, self.video.height),
            rate=float(self.video.rate),
            start=self.begun.start,
            end=self.video.end,
            complete=error is None,
            truncated=isinstance(error, EndedEarly),
            seconds=seconds,
            version=__version__,
            masks=self.output.place,
            overlay=str(self.output.overlay) if self.output.overlay else None,
        )


def _drawn(shown: Shown, labels: Labels) -> SavedFrame:
    name, frame, time_shown = shown
    return SavedFrame(name, frame, labels, time_shown)
