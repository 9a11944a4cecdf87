"""DAVIS 2016's protocol: whatever is annotated is one object, followed from the first frame."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.evaluation.metrics import contour_accuracy, region_similarity
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker

Image = NDArray[np.uint8]  # [H, W, 3] RGB, or [H, W] ids


@dataclass(frozen=True)
class SequenceScore:
    """Result of one sequence.

    Attributes:
        name: of the sequence.
        j: mean region similarity, 0 to 1, without the first and the last frame.
        f: mean contour accuracy, likewise.
        frames: how many the sequence has.
        seconds: spent in the tracker's steps, over all frames but the first.
    """

    name: str
    j: float
    f: float
    frames: int
    seconds: float

    @property
    def milliseconds(self) -> float:
        """Time of a step."""
        return 1000 * self.seconds / (self.frames - 1)


def evaluate_sequence(
    tracker: Tracker,
    name: str,
    frames: Iterable[Image],
    truths: Iterable[Image],
    *,
    size: tuple[int, int] | None = None,
) -> SequenceScore:
    """Follow the first frame's foreground and score every frame but the first and the last.

    Frames and truths are taken one at a time, so that both may be generators.

    Args:
        tracker: what is judged.
        name: of the sequence, for the result and for messages.
        frames: uint8 [H, W, 3], RGB.
        truths: uint8 [H, W], as many; 0 is the background.
        size: height and width to which frames (cubic) and truths (nearest) are brought before
            they are followed and scored; None keeps each as it is.

    Raises:
        UserError: a frame and its truth differ in size or number, or there are fewer than three.
    """
    scores: list[tuple[float, float]] = []
    seconds = 0.0
    stream = None
    for frame, truth in _pairs(name, frames, truths, size):
        if stream is None:
            stream = tracker.open(frame, truth.astype(np.uint8))
            continue
        start = time.perf_counter()
        labels = stream.step(frame)
        seconds += time.perf_counter() - start
        predicted = labels > 0
        scores.append((region_similarity(predicted, truth), contour_accuracy(predicted, truth)))
    if len(scores) < 2:
        raise UserError(f"{name} has fewer than three frames; DAVIS's protocol needs three.")
    j, f = np.mean(scores[:-1], axis=0)
    return SequenceScore(name, float(j), float(f), len(scores) + 1, seconds)


def _pairs(
    name: str, frames: Iterable[Image], truths: Iterable[Image], size: tuple[int, int] | None
) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
    for frame, truth in zip_longest(frames, truths):
        if frame is None or truth is None:
            raise UserError(f"{name} has not one mask for every frame; complete its masks.")
        if size is not None:
            # The exact variant: plain nearest shifts the mask by up to half a pixel.
            frame = _resize(frame, size, cv2.INTER_CUBIC)
            truth = _resize(truth, size, cv2.INTER_NEAREST_EXACT)
        if frame.shape[:2] != truth.shape:
            raise UserError(
                f"{name}: a frame of {frame.shape[:2]} has a mask of {truth.shape}; "
                "give masks of the frames' size, or a size for both."
            )
        yield frame, truth > 0


def _resize(image: Image, size: tuple[int, int], method: int) -> Image:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=method)
    return resized.astype(np.uint8, copy=False)
