"""Mean, recall and decay of J and F: of an object, of a video, of all objects."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

RECALL_THRESHOLD = 0.5
"""A frame counts for recall if its measure exceeds this."""


@dataclass(frozen=True)
class Statistics:
    """DAVIS's statistics of a measure; all three are NaN if no frame was scored.

    Args:
        mean: over the frames.
        recall: share of the frames above one half.
        decay: mean of the first quarter of the frames less that of the last.
    """

    mean: float
    recall: float
    decay: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the statistics of a measure's values over an object's frames, in order.

        As ``db_statistics`` of davis2017-evaluation: neighbouring quarters share a frame, a NaN
        is no part of a mean, and it counts as a miss for recall. That code keeps the quarters'
        limits in eight bits, which is wrong from 257 frames on, longer than any video of DAVIS.
        """
        each = np.asarray(values, float)
        if not each.size:
            return cls(math.nan, math.nan, math.nan)
        limits = np.round(np.linspace(1, each.size, 5) + 1e-10).astype(int) - 1
        first, last = each[limits[0] : limits[1] + 1], each[limits[3] : limits[4] + 1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a quarter of NaN only
            return cls(
                float(np.nanmean(each)),
                float(np.mean(each > RECALL_THRESHOLD)),
                float(np.nanmean(first) - np.nanmean(last)),
            )

    @classmethod
    def mean_of(cls, several: Iterable[Statistics]) -> Self:
        """Return the mean of each figure over the objects that have a scored frame."""
        scored = [one for one in several if not math.isnan(one.mean)]
        if not scored:
            return cls(math.nan, math.nan, math.nan)
        figures = np.array([[one.mean, one.recall, one.decay] for one in scored])
        return cls(*(float(figure) for figure in figures.mean(axis=0)))


@dataclass(frozen=True)
class ObjectScore:
    """J and F of an object, frame by frame.

    Args:
        id: of the object.
        enters: stem of the frame from which it is followed.
        frames: stems of the scored frames; none if there is no truth.
        j: region similarity on each of them, 0 to 1.
        f: contour accuracy, likewise.
    """

    id: int
    enters: str
    frames: tuple[str, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]


@dataclass(frozen=True)
class VideoScore:
    """The scores of one video.

    Args:
        name: of the video.
        size: height and width at which it was followed and scored.
        frames: how many it has.
        steps: how many times the network stepped.
        seconds: spent in those steps.
        objects: their scores, by rising id.
    """

    name: str
    size: tuple[int, int]
    frames: int
    steps: int
    seconds: float
    objects: tuple[ObjectScore, ...]

    @property
    def j(self) -> Statistics:
        """Mean over the objects of the statistics of J."""
        return Statistics.mean_of(Statistics.of(one.j) for one in self.objects)

    @property
    def f(self) -> Statistics:
        """Mean over the objects of the statistics of F."""
        return Statistics.mean_of(Statistics.of(one.f) for one in self.objects)

    @property
    def scored(self) -> bool:
        """Whether any object has a scored frame."""
        return any(one.frames for one in self.objects)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> VideoScore:
        """Restore the scores from :meth:`to_json`'s types.

        Raises:
            KeyError, TypeError: they are other types.
        """
        objects = tuple(
            ObjectScore(**{**one, **{key: tuple(one[key]) for key in ("frames", "j", "f")}})
            for one in data["objects"]
        )
        return cls(**{**data, "size": tuple(data["size"]), "objects": objects})


@dataclass(frozen=True)
class Overall:
    """The scores of all videos; as in DAVIS, every object weighs the same.

    Args:
        j, f: means over the objects.
        videos: how many were followed.
        objects: how many of their objects were scored.
        frames: of all videos.
        milliseconds: of a step, the mean over all; NaN without one.
    """

    j: Statistics
    f: Statistics
    videos: int
    objects: int
    frames: int
    milliseconds: float

    @classmethod
    def of(cls, scores: Iterable[VideoScore]) -> Self:
        """Return the scores of all videos together."""
        scores = list(scores)
        objects = [one for score in scores for one in score.objects]
        return cls(
            j=Statistics.mean_of(Statistics.of(one.j) for one in objects),
            f=Statistics.mean_of(Statistics.of(one.f) for one in objects),
            videos=len(scores),
            objects=sum(bool(one.frames) for one in objects),
            frames=sum(score.frames for score in scores),
            milliseconds=milliseconds(scores),
        )

    @property
    def j_and_f(self) -> float:
        """The mean of the two means, by which DAVIS ranks."""
        return (self.j.mean + self.f.mean) / 2


def milliseconds(scores: Iterable[VideoScore]) -> float:
    """Return the mean time of a step over videos, NaN if there was none."""
    scores = list(scores)
    steps = sum(score.steps for score in scores)
    return 1000 * sum(score.seconds for score in scores) / steps if steps else math.nan
