"""The evaluation of one video: its objects are followed and compared with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.metrics import contour_accuracy, region_similarity
from s2svos.evaluation.scores import ObjectScore, VideoScore
from s2svos.evaluation.videos import VOID, Size, frames, object_ids, resize, truth_at
from s2svos.video.masks import specks
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError


class Stream(Protocol):
    """A video that is followed, such as :class:`s2svos_engines.tracker.Stream`."""

    def step(self, frame: Frame, /) -> Labels:
        """Return the ids on the next frame."""
        ...

    def add(self, frame: Frame, labels: Labels, /) -> Labels:
        """Add objects that enter on the latest frame; return all ids on it."""
        ...


class Tracker(Protocol):
    """A tracker of objects, such as :class:`s2svos_engines.tracker.Tracker`."""

    def open(self, frame: Frame, labels: Labels, /) -> Stream:
        """Open a stream with the objects of its first frame."""
        ...


def evaluate_video(
    tracker: Tracker,
    video: VideoFiles,
    *,
    size: Size | None = None,
    late: bool = False,
    save_mask: Callable[[str, Labels], None] | None = None,
    report: Callable[[int], None] | None = None,
) -> VideoScore:
    """Follow a video's objects, each from its true mask, and score them.

    By DAVIS's protocol for a given first mask: an object counts from the frame after that on which
    it enters, and the last annotated frame never counts. If no frame is annotated beyond those on
    which objects enter, as in YouTube-VOS's ``valid``, there is no truth and nothing is scored.

    Args:
        tracker: that is evaluated.
        video: frames, true masks and objects; a frame is in memory only while it is worked on.
        size: height and width to which frames (cubic) and masks (nearest) are brought before they
            are followed and scored; None keeps each as it is.
        late: if the video lists no objects, also follow those that the first mask lacks, from the
            first mask that shows them.
        save_mask: called with the stem and the ids, uint8 [H, W], of every required frame.
        report: called after every frame, with 1.

    Raises:
        UserError: a file is broken, sizes differ, a mask has no frame, or an object no mask.
    """
    evaluation = VideoEvaluation(tracker)
    required = set(video.required)
    for stem, frame in frames(video):
        if size:
            frame = resize(frame, size, cv2.INTER_CUBIC)
        shape = frame.shape[0], frame.shape[1]
        truth = truth_at(video, stem, shape, resized=size is not None)
        entering = _entering(video, stem, truth, evaluation.ids, late)
        if entering and not evaluation.ids and truth is not None:
            specks(truth, f"The mask {video.masks[stem]}")
        labels = evaluation.step(stem, frame, truth, entering)
        if save_mask and (stem in required or not required):
            save_mask(stem, labels)
        if report:
            report(1)
    _check_complete(video, evaluation)
    return evaluation.score(video.name)


@dataclass
class _Object:
    """An object that is followed, with J and F of the frames that show the truth."""

    enters: str
    frames: list[str] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


class VideoEvaluation:
    """The evaluation of one video, frame by frame.

    Args:
        tracker: that is evaluated.

    Attributes:
        annotated: stems of the frames with a truth, so far.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.annotated: list[str] = []
        self._tracker = tracker
        self._stream: Stream | None = None
        self._objects: dict[int, _Object] = {}
        self._size: Size = (0, 0)
        self._frames, self._steps, self._seconds = 0, 0, 0.0

    @property
    def ids(self) -> Set[int]:
        """Ids of the objects that are followed."""
        return self._objects.keys()

    def step(
        self, stem: str, frame: Frame, truth: Labels | None, entering: Set[int] = frozenset()
    ) -> Labels:
        """Follow the objects into the next frame and score them there.

        Args:
            stem: of the frame.
            frame: uint8 [H, W, 3], RGB.
            truth: the true ids, uint8 [H, W]; None if the frame is not annotated.
            entering: ids of the objects that are followed from this frame on.

        Returns:
            The predicted ids, uint8 [H, W], those of entering objects as in the truth.
        """
        self._size = frame.shape[0], frame.shape[1]
        self._frames += 1
        labels = self._predict(frame)
        if entering:
            assert truth is not None
            labels = self._enter(frame, truth, entering)
        if truth is not None:
            self._score(stem, labels, truth)
        self._objects.update((one, _Object(enters=stem)) for one in entering)
        return labels

    def score(self, name: str, *, last: bool = False) -> VideoScore:
        """Return the scores of the frames that count by DAVIS's protocol.

        Args:
            name: of the video.
            last: count the last annotated frame too.
        """
        entries = {one.enters for one in self._objects.values()}
        following = self.annotated if last else self.annotated[:-1]
        counted = set(following) if set(self.annotated) - entries else set()
        objects = tuple(_counted(i, self._objects[i], counted) for i in sorted(self._objects))
        return VideoScore(name, self._size, self._frames, self._steps, self._seconds, objects)

    def _predict(self, frame: Frame) -> Labels:
        if self._stream is None:
            return np.zeros(self._size, np.uint8)
        began = time.perf_counter()
        labels = self._stream.step(frame)
        self._seconds += time.perf_counter() - began
        self._steps += 1
        return labels

    def _enter(self, frame: Frame, truth: Labels, entering: Set[int]) -> Labels:
        mask = np.where(np.isin(truth, list(entering)), truth, 0).astype(np.uint8)
        # 0 in this mask says nothing of the others: they keep the labels predicted for them.
        if self._stream is not None:
            return self._stream.add(frame, mask)
        self._stream = self._tracker.open(frame, mask)
        return mask

    def _score(self, stem: str, labels: Labels, truth: Labels) -> None:
        self.annotated.append(stem)
        for object_id, scores in self._objects.items():
            predicted, expected = labels == object_id, truth == object_id
            scores.frames.append(stem)
            scores.j.append(region_similarity(predicted, expected))
            scores.f.append(contour_accuracy(predicted, expected))


def _entering(
    video: VideoFiles, stem: str, truth: Labels | None, followed: Set[int], late: bool
) -> set[int]:
    """Return the ids of the objects that are followed from this frame on."""
    if video.objects is None:
        if truth is None or (followed and not late):
            return set()
        new = object_ids(truth) - followed
        return new - {VOID} if followed else new
    listed = {one for one, first in video.objects.items() if first == stem}
    missing = {one for one in listed if truth is None or not (truth == one).any()}
    if missing:
        where = video.masks.get(stem, f"The frame {stem} of {video.name}")
        raise UserError(
            f"{where} has no mask of the object {min(missing)}, which is listed to enter there",
            "complete the data set",
        )
    return listed


def _check_complete(video: VideoFiles, evaluation: VideoEvaluation) -> None:
    if without_frame := sorted(set(video.masks) - set(evaluation.annotated)):
        raise UserError(
            f"{video.masks[without_frame[0]]} has no frame in the video {video.name}",
            "complete its frames",
        )
    if missing := set(video.objects or ()) - evaluation.ids:
        raise UserError(
            f"The object {min(missing)} of {video.name} is listed to enter on a frame that the "
            "video has not",
            "complete its frames",
        )
    if not evaluation.ids:
        raise UserError(f"No mask of {video.name} shows an object", "complete its masks")


def _counted(object_id: int, scores: _Object, counted: set[str]) -> ObjectScore:
    """Return an object's scores on the frames that count."""
    kept = [i for i, stem in enumerate(scores.frames) if stem in counted]
    return ObjectScore(
        object_id,
        scores.enters,
        tuple(scores.frames[i] for i in kept),
        tuple(scores.j[i] for i in kept),
        tuple(scores.f[i] for i in kept),
    )
