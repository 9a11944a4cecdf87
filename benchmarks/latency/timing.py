"""Contestants compared with the reference, warmed up, and timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from benchmarks.latency.variants import BARE, Contestant, Loop, Pictures

TURN_SECONDS = 0.2  # of one contestant; slow ones take one step
WINDOW = 5  # steps, fewer of slow ones, whose median tells whether a contestant still gets faster
STEADY = 0.05  # by how much medians of two windows may differ

Overlap = tuple[float, float, int]
"""IoU with the reference: mean, worst, and frames."""


@dataclass
class Entry:
    """A contestant that runs here, and what has been seen of it."""

    who: Contestant
    loops: list[Loop]
    iou: Overlap
    warm_up_steps: int
    steady: bool
    step_seconds: float  # at the end of the warm-up
    turns: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0  # on the clock, while the turns' steps ran

    @property
    def burst(self) -> int:
        """Steps of a turn that count."""
        return max(1, min(20, round(TURN_SECONDS / self.step_seconds)))

    @property
    def turn_seconds(self) -> float:
        """What a turn is going to take; streams share the processor."""
        return (self._disturbed + self.burst) * self.step_seconds * len(self.loops)

    @property
    def _disturbed(self) -> bool:
        """Whether who was before, whose threads may spin for milliseconds, disturbs a step."""
        return self.step_seconds < TURN_SECONDS

    def turn(self, clip: list[Pictures]) -> None:
        """A step that nobody counts, unless steps are long; then those that count."""
        if self._disturbed:
            for loop in self.loops:
                loop.step(clip[1])
        began = time.perf_counter()
        if len(self.loops) == 1:
            times = _steps(self.loops[0], clip, self.burst)
        else:
            work: Callable[[Loop], list[float]] = lambda loop: _steps(loop, clip, self.burst)  # noqa: E731
            with ThreadPoolExecutor(len(self.loops)) as pool:
                times = [ms for part in pool.map(work, self.loops) for ms in part]
        self.seconds += time.perf_counter() - began
        self.turns.append(times)


class Masks(Protocol):
    """The reference's masks by frame, the first after the one that starts the objects is 0."""

    def __getitem__(self, index: int) -> Pictures:
        """uint8 [N, H, W]."""
        ...


def compare(
    who: Contestant, loop: Loop, clip: list[Pictures], reference: Masks, seconds: float
) -> Overlap:
    """IoU with the reference over the clip, or as much of it as fits into ``seconds``."""
    loop.restart()
    overlaps: list[float] = []
    spent = 0.0
    for index, frame in enumerate(clip[1:2] if who.kind == BARE else clip[1:]):
        began = time.perf_counter()
        masks = loop.step(frame)
        spent += time.perf_counter() - began
        overlaps.extend(overlap(masks, reference[index]))
        if spent > seconds:
            break
    return float(np.mean(overlaps)), float(np.min(overlaps)), len(overlaps) // who.objects


def overlap(masks: Pictures, others: Pictures) -> list[float]:
    """IoU of each object's mask, of probabilities of at least one half; 1 where both are empty."""
    result = []
    for mask, other in zip(masks >= 128, others >= 128, strict=True):
        union = np.count_nonzero(mask | other)
        result.append(np.count_nonzero(mask & other) / union if union else 1.0)
    return result


def warm_up(
    who: Contestant, loops: list[Loop], clip: list[Pictures], iou: Overlap, seconds: float
) -> Entry:
    """Steps until the time of a step stays, for at most about ``seconds``."""
    for loop in loops[1:]:
        loop.step(clip[1])
    deadline = time.perf_counter() + seconds
    steps, medians, steady = 1, _steps(loops[0], clip, 1), False
    # The first step may have compiled something, so one more is needed at least.
    while len(medians) < 2 or (not steady and time.perf_counter() < deadline):
        window = max(1, min(WINDOW, round(1000 * TURN_SECONDS / medians[-1])))
        medians.append(statistics.median(_steps(loops[0], clip, window)))
        steady = abs(medians[-1] / medians[-2] - 1) < STEADY
        steps += window
    return Entry(who, loops, iou, steps, steady, medians[-1] / 1000)


def _steps(loop: Loop, clip: list[Pictures], steps: int) -> list[float]:
    """Milliseconds of each of several steps in a closed loop."""
    times = []
    for index in range(steps):
        frame = clip[1 + index % (len(clip) - 1)]
        began = time.perf_counter()
        loop.step(frame)
        times.append(round(1000 * (time.perf_counter() - began), 4))
    return times
