"""Follow the objects of one video and compare them with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.metrics import contour_accuracy, region_similarity
from s2svos.evaluation.scores import ObjectScore, VideoScore
from s2svos.evaluation.videos import (
    VOID,
    Frame,
    Ids,
    Size,
    frames,
    object_ids,
    resize,
    truth_at,
)
from s2svos_engines.errors import UserError


class Stream(Protocol):
    """A video being followed, as :class:`s2svos_engines.tracker.Stream`."""

    def step(self, frame: Frame) -> Ids:
        """The ids on the next frame."""
        ...

    def add(self, frame: Frame, mask: Ids) -> Ids:
        """The ids on the latest frame, with further objects that enter on it."""
        ...


class Tracker(Protocol):
    """Whatever can follow objects, as :class:`s2svos_engines.tracker.Tracker`."""

    def open(self, frame: Frame, mask: Ids) -> Stream:
        """Starts a stream with the objects of its first frame."""
        ...


@dataclass
class _Object:
    """An object that is followed, and its scores so far."""

    enters: str
    frames: list[str] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


def evaluate_video(
    tracker: Tracker,
    video: VideoFiles,
    *,
    size: Size | None = None,
    late: bool = False,
    keep: Callable[[str, Ids], None] | None = None,
    report: Callable[[int], None] | None = None,
) -> VideoScore:
    """Follows a video's objects, each from its true mask, and scores them.

    By DAVIS's protocol for a given first mask: an object counts from the frame after that on which
    it enters, and the last annotated frame never counts. Where no frame is annotated beyond those
    on which objects enter, as in YouTube-VOS's ``valid``, there is no truth and nothing is scored.

    Args:
        tracker: what is judged.
        video: frames, true masks and objects; a frame is in memory only while it is worked on.
        size: height and width to which frames (cubic) and masks (nearest) are brought before they
            are followed and scored; None keeps each as it is.
        late: where the video lists no objects, also follow those that the first mask lacks, from
            the first mask that shows them.
        keep: is given the stem and the ids, uint8 [H, W], of every required frame.
        report: is called after every frame, with 1.

    Raises:
        UserError: a file is broken, sizes differ, a mask has no frame, or an object no mask.
    """
    followed: dict[int, _Object] = {}
    annotated: list[str] = []
    required = set(video.required)
    stream: Stream | None = None
    count, steps, seconds = 0, 0, 0.0
    shape: Size = (0, 0)
    for stem, frame in frames(video):
        if size:
            frame = resize(frame, size, cv2.INTER_CUBIC)
        shape = frame.shape[0], frame.shape[1]
        truth = truth_at(video, stem, shape, resized=size is not None)
        labels = np.zeros(shape, np.uint8)
        if stream:
            began = time.perf_counter()
            labels = stream.step(frame)
            seconds += time.perf_counter() - began
            steps += 1
        if truth is not None:
            annotated.append(stem)
        if entering := _entering(video, stem, truth, followed, late):
            assert truth is not None
            mask = np.where(np.isin(truth, list(entering)), truth, 0).astype(np.uint8)
            # 0 in this mask says nothing of the others: they keep the labels predicted for them.
            if stream:
                labels = stream.add(frame, mask)
            else:
                stream, labels = tracker.open(frame, mask), mask
        if truth is not None:
            for one, scores in followed.items():
                found, wanted = labels == one, truth == one
                scores.frames.append(stem)
                scores.j.append(region_similarity(found, wanted))
                scores.f.append(contour_accuracy(found, wanted))
        followed.update((one, _Object(enters=stem)) for one in entering)
        if keep and (stem in required or not required):
            keep(stem, labels)
        count += 1
        if report:
            report(1)
    _check_complete(video, annotated, followed)
    entries = {scores.enters for scores in followed.values()}
    counted = set(annotated[:-1]) if set(annotated) - entries else set()
    objects = tuple(_finish(one, followed[one], counted) for one in sorted(followed))
    return VideoScore(video.name, shape, count, steps, seconds, objects)


def _entering(
    video: VideoFiles, stem: str, truth: Ids | None, followed: dict[int, _Object], late: bool
) -> set[int]:
    """Ids of the objects that are followed from this frame on."""
    if video.objects is None:
        if truth is None or (followed and not late):
            return set()
        new = object_ids(truth) - followed.keys()
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


def _check_complete(video: VideoFiles, annotated: list[str], followed: dict[int, _Object]) -> None:
    if lonely := sorted(set(video.masks) - set(annotated)):
        raise UserError(
            f"{video.masks[lonely[0]]} has no frame in the video {video.name}",
            "complete its frames",
        )
    if missing := set(video.objects or ()) - followed.keys():
        raise UserError(
            (
                f"The object {min(missing)} of {video.name} is listed to enter on a frame that the "
                "video has not"
            ),
            "complete its frames",
        )
    if not followed:
        raise UserError(f"No mask of {video.name} shows an object", "complete its masks")


def _finish(one: int, scores: _Object, counted: set[str]) -> ObjectScore:
    """The scores of an object on the frames that count."""
    kept = [i for i, stem in enumerate(scores.frames) if stem in counted]
    return ObjectScore(
        one,
        scores.enters,
        tuple(scores.frames[i] for i in kept),
        tuple(scores.j[i] for i in kept),
        tuple(scores.f[i] for i in kept),
    )
