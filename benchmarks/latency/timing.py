"""Variants compared with the reference, warmed up, and timed in rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.latency.variants import BARE, Loop, Pictures, Variant
from s2svos_engines.closed_loop import mask_iou

Clock = Callable[[], float]
"""Seconds from any point on, as ``time.perf_counter`` gives them; tests have one of their own."""

ROUND_SECONDS = 0.2  # of one variant; slow ones take one step
WINDOW = 5  # steps, fewer of slow ones, whose median tells whether a variant still gets faster
STEADY = 0.05  # by how much medians of two windows may differ


class Agreement(NamedTuple):
    """IoU with the reference."""

    mean: float
    worst: float
    frames: int


@dataclass
class Measurement:
    """A variant that runs here, and its times so far.

    Args:
        variant: what runs.
        loops: that run it, one a stream.
        iou: with the reference.
        warm_up_steps: steps until its time was steady.
        steady: whether it became so.
        step_seconds: of a step at the end of the warm-up.
        rounds: milliseconds of every step, by round.
        seconds: on the clock, while the rounds' steps ran.
    """

    variant: Variant
    loops: list[Loop]
    iou: Agreement
    warm_up_steps: int
    steady: bool
    step_seconds: float
    rounds: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps_per_round(self) -> int:
        """Number of steps that count."""
        return max(1, min(20, round(ROUND_SECONDS / self.step_seconds)))

    @property
    def round_seconds(self) -> float:
        """Seconds that a round will take; streams share the processor."""
        return (self._is_disturbed + self.steps_per_round) * self.step_seconds * len(self.loops)

    @property
    def _is_disturbed(self) -> bool:
        """Whether the variant before, whose threads may spin for milliseconds, disturbs a step."""
        return self.step_seconds < ROUND_SECONDS

    def measure_round(self, clip: list[Pictures]) -> None:
        """Take a step that does not count, unless steps are long; then those that count."""
        if self._is_disturbed:
            for loop in self.loops:
                loop.step(clip[1])
        began = time.perf_counter()
        if len(self.loops) == 1:
            times = _steps(self.loops[0], clip, self.steps_per_round)
        else:
            with ThreadPoolExecutor(len(self.loops)) as pool:
                parts = pool.map(lambda loop: _steps(loop, clip, self.steps_per_round), self.loops)
                times = [ms for part in parts for ms in part]
        self.seconds += time.perf_counter() - began
        self.rounds.append(times)


class ReferenceMasks(Protocol):
    """The reference's masks by frame, the first after the one that starts the objects is 0."""

    def __getitem__(self, index: int) -> Pictures:
        """Return uint8 [N, H, W]."""
        ...


def compare(
    variant: Variant,
    loop: Loop,
    clip: list[Pictures],
    reference: ReferenceMasks,
    seconds: float,
    *,
    clock: Clock,
) -> Agreement:
    """Measure the IoU with the reference over the clip, or what of it fits into ``seconds``."""
    loop.restart()
    ious: list[float] = []
    began = clock()
    for index, frame in enumerate(clip[1:2] if variant.kind == BARE else clip[1:]):
        ious.extend(mask_iou(loop.step(frame), reference[index]).tolist())
        if clock() - began > seconds:
            break
    return Agreement(float(np.mean(ious)), float(np.min(ious)), len(ious) // variant.objects)


def warm_up(
    variant: Variant,
    loops: list[Loop],
    clip: list[Pictures],
    iou: Agreement,
    seconds: float,
    *,
    clock: Clock,
) -> Measurement:
    """Step until the time of a step is steady, for at most about ``seconds``."""
    for loop in loops[1:]:
        loop.step(clip[1])
    deadline = clock() + seconds
    steps, medians, steady = 1, _steps(loops[0], clip, 1), False
    # The first step may have compiled something, so one more is needed at least.
    while len(medians) < 2 or (not steady and clock() < deadline):
        window = max(1, min(WINDOW, round(1000 * ROUND_SECONDS / medians[-1])))
        medians.append(statistics.median(_steps(loops[0], clip, window)))
        steady = abs(medians[-1] / medians[-2] - 1) < STEADY
        steps += window
    return Measurement(variant, loops, iou, steps, steady, medians[-1] / 1000)


def _steps(loop: Loop, clip: list[Pictures], steps: int) -> list[float]:
    """Return the milliseconds of each of several steps in a closed loop."""
    times = []
    for index in range(steps):
        frame = clip[1 + index % (len(clip) - 1)]
        began = time.perf_counter()
        loop.step(frame)
        times.append(round(1000 * (time.perf_counter() - began), 4))
    return times
