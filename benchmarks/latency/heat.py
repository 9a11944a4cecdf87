"""One bundle's measurement: all contestants in turns, with what else there is to know of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.latency.contestants import (
    BARE,
    OURS,
    Contestant,
    Loop,
    Pictures,
    Workshop,
    contestants,
    runs_on_gpu,
)
from benchmarks.latency.gpu import gpu_state
from benchmarks.latency.isolated import measure_alone
from benchmarks.latency.records import BENCHMARK, Heat, Row
from benchmarks.latency.roofline import Ceiling, Work, ceilings, count, gpu_ceilings
from benchmarks.latency.stages import stage_times
from benchmarks.latency.statistics import misses, summary
from s2svos.evaluation.environment import environment
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from rich.status import Status

TURN_SECONDS = 0.2  # of one contestant; slow ones take one step
ALONE_SECONDS = 60.0  # after which a process of its own is given up
FEWEST_TURNS = 3  # without which there is no telling how they vary
WINDOW = 5  # steps whose median tells whether a contestant still gets faster
STEADY = 0.05  # by how much medians of two windows may differ


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        seconds: for the whole heat.
        objects, streams: counts.
        frames: on which masks are compared with the reference.
        warm_up: seconds of a contestant at most, and as many for its comparison.
        everything: compiled peers too, and peers at every object count.
        threads: of our engines.
    """

    seconds: float
    objects: tuple[int, ...]
    streams: tuple[int, ...]
    frames: int
    warm_up: float
    everything: bool
    threads: int

    @classmethod
    def quick(cls, seconds: float, threads: int | None) -> Plan:
        """What fits into minutes."""
        return cls(seconds, (1, 10), (1, 2), 8, 1.0, False, threads or _cores())

    @classmethod
    def full(cls, seconds: float, threads: int | None) -> Plan:
        """All that the suite has."""
        return cls(seconds, (1, 2, 10), (1, 2, 4), 40, 6.0, True, threads or _cores())


@dataclass
class Entry:
    """A contestant that runs here, and what has been seen of it."""

    who: Contestant
    loops: list[Loop]
    iou: tuple[float, float, int]  # mean, worst, frames
    warm_up_steps: int
    steady: bool
    burst: int
    turns: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0  # on the clock, while the turns' steps ran


class Reference:
    """Masks by ONNX Runtime in fp32, whose graphs the export compared with PyTorch."""

    def __init__(self, workshop: Workshop, clip: Sequence[Pictures], masks: Pictures) -> None:
        self._loop = workshop.loop(
            Contestant("onnxruntime", OURS, "fp32", len(masks)), clip[0], masks
        )
        self._clip, self._masks = clip, list[Pictures]()

    def __getitem__(self, index: int) -> Pictures:
        while len(self._masks) <= index:
            self._masks.append(self._loop.step(self._clip[1 + len(self._masks)]).copy())
        return self._masks[index]


def measure(path: Path, plan: Plan, *, checkpoint: Path | None, video: Path | None) -> Heat:
    """Measures a bundle.

    Raises:
        UserError: the bundle cannot be read, or onnxruntime and onnx are not installed.
    """
    from rich.console import Console

    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            'The suite needs onnxruntime and onnx; pip install "s2svos[cpu,train]".'
        ) from error
    end = time.perf_counter() + plan.seconds
    bundle = Bundle.open(path)
    clip, first = picture_clip(bundle, plan.frames + 1)
    workshop = Workshop(bundle, threads=plan.threads, checkpoint=checkpoint)
    before = {"environment": environment(), "gpu": gpu_state()}
    with Console(stderr=True).status(f"{path.name}: preparing") as status:
        entries, skipped = _prepare(workshop, plan, clip, first, status)
        ours = {(e.who.name, e.who.precision) for e in entries if e.who.kind == OURS}
        alone, stages = {}, {}
        for engine, precision in sorted(ours):
            status.update(f"{path.name}: {engine} {precision} alone and end to end")
            for objects in (plan.objects[0], plan.objects[-1]):
                alone[engine, precision, objects] = measure_alone(
                    path, engine, precision, objects, plan.threads, limit=ALONE_SECONDS
                )
            stages[engine, precision] = stage_times(
                workshop.engine(engine, precision),
                (bundle.contract.height, bundle.contract.width),
                video=video,
                frames=plan.frames + 1,
                seconds=plan.warm_up,
            )
        limits = [*ceilings(plan.threads), *gpu_ceilings()]
        turn, began = 0, [time.perf_counter()]
        # The last turn is to end in time, if it takes no longer than the one before.
        while turn < FEWEST_TURNS or 2 * began[-1] - began[-2] < end:
            turn += 1
            status.update(f"{path.name}: turn {turn}, {max(0, end - time.perf_counter()):.0f} s")
            for limit in limits:
                limit.turn()
            for entry in entries:
                _turn(entry, clip)
            began.append(time.perf_counter())
    work = {
        (precision, objects): count(bundle.graph("step", precision=precision), objects=objects)
        for precision in bundle.precisions
        for objects in plan.objects
    }
    rows = [_row(entry, work, limits, alone, stages) for entry in entries]
    return {
        "benchmark": BENCHMARK,
        "bundle": bundle.sha256,
        "name": path.name,
        "preset": bundle.manifest.get("network", {}).get("preset", path.stem),
        "size": [bundle.contract.height, bundle.contract.width],
        "threads": plan.threads,
        "turns": turn,
        "torch_network": "the checkpoint's" if checkpoint else "the bundle's graphs",
        "reference": "onnxruntime fp32",
        "ceilings": {limit.name: limit.per_second for limit in limits},
        "control_ms": next(limit.turns for limit in limits if limit.name == "fp32"),
        "rows": rows,
        "skipped": skipped,
        "gpu_before": before["gpu"],
        "gpu_after": gpu_state(),
        "environment": before["environment"],
    }


def picture_clip(bundle: Bundle, frames: int) -> tuple[list[Pictures], Pictures]:
    """Drawn frames at the network's size, and the mask, uint8 [H, W], of one object on the first.

    Sizes below the scene's least are cut from a larger drawing.
    """
    import cv2

    from s2svos.demo.render import render

    size = (bundle.contract.width, bundle.contract.height)
    drawn = list(render(length=frames))
    clip = [np.asarray(cv2.resize(frame, size), np.uint8) for frame, _ in drawn]
    mask = (drawn[0][1] == drawn[0][1].max()).astype(np.uint8) * np.uint8(255)
    return clip, np.asarray(cv2.resize(mask, size), np.uint8)


def _prepare(
    workshop: Workshop, plan: Plan, clip: list[Pictures], first: Pictures, status: Status
) -> tuple[list[Entry], list[dict[str, str]]]:
    entries, skipped = [], []
    references: dict[int, Reference] = {}
    for who in contestants(workshop.bundle, plan.objects, plan.streams, everything=plan.everything):
        status.update(f"{workshop.bundle.path.name}: {who.name} {who.precision} warms up")
        # Shifted, so that no two objects are the same.
        masks = np.stack([np.roll(first, 8 * index, axis=1) for index in range(who.objects)])
        if who.objects not in references:
            references[who.objects] = Reference(workshop, clip, masks)
        try:
            loops = [workshop.loop(who, clip[0], masks) for _ in range(who.streams)]
            entries.append(_warm(who, loops, clip, references[who.objects], plan))
        # Whatever a peer's library raises, the others are to be measured; the reason is recorded.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            skipped.append({"contestant": who.name, "precision": who.precision, "why": reason[0]})
    if not plan.everything:
        why = "a quick run leaves it out"
        skipped.append({"contestant": "torch compile", "precision": "fp32", "why": why})
    return entries, skipped


def _warm(
    who: Contestant, loops: list[Loop], clip: list[Pictures], reference: Reference, plan: Plan
) -> Entry:
    """Compares the masks, then steps until the time of a step stays."""
    loop = loops[0]
    loop.restart()
    overlaps: list[float] = []
    spent = 0.0
    for index, frame in enumerate(clip[1:2] if who.kind == BARE else clip[1:]):
        began = time.perf_counter()
        masks = loop.step(frame)
        spent += time.perf_counter() - began
        overlaps.extend(overlap(masks, reference[index]))
        if spent > plan.warm_up and index:
            break
    compared = len(overlaps) // who.objects
    for other in loops[1:]:
        other.step(clip[1])
    windows: list[float] = []
    steady, deadline = False, time.perf_counter() + plan.warm_up
    while not steady and (not windows or time.perf_counter() < deadline):
        times = _steps(loop, clip, WINDOW if windows or spent < 1 else 1)
        windows.append(statistics.median(times))
        steady = len(windows) > 1 and abs(windows[-1] / windows[-2] - 1) < STEADY
    burst = max(1, min(20, round(1000 * TURN_SECONDS / windows[-1])))
    iou = (float(np.mean(overlaps)), float(np.min(overlaps)), compared)
    return Entry(who, loops, iou, compared + WINDOW * len(windows), steady, burst)


def overlap(masks: Pictures, others: Pictures) -> list[float]:
    """IoU of each object's mask, of probabilities of at least one half; 1 where both are empty."""
    result = []
    for mask, other in zip(masks >= 128, others >= 128, strict=True):
        union = np.count_nonzero(mask | other)
        result.append(np.count_nonzero(mask & other) / union if union else 1.0)
    return result


def _turn(entry: Entry, clip: list[Pictures]) -> None:
    """One step that nobody counts, since the one before may leave spinning threads; then some."""
    for loop in entry.loops:
        loop.step(clip[1])
    began = time.perf_counter()
    if len(entry.loops) == 1:
        times = _steps(entry.loops[0], clip, entry.burst)
    else:
        work: Callable[[Loop], list[float]] = lambda loop: _steps(loop, clip, entry.burst)  # noqa: E731
        with ThreadPoolExecutor(len(entry.loops)) as pool:
            times = [ms for part in pool.map(work, entry.loops) for ms in part]
    entry.seconds += time.perf_counter() - began
    entry.turns.append(times)


def _steps(loop: Loop, clip: list[Pictures], steps: int) -> list[float]:
    """Milliseconds of each of several steps in a closed loop."""
    times = []
    for index in range(steps):
        frame = clip[1 + index % (len(clip) - 1)]
        began = time.perf_counter()
        loop.step(frame)
        times.append(round(1000 * (time.perf_counter() - began), 4))
    return times


def _row(
    entry: Entry,
    work: dict[tuple[str, int], Work],
    limits: list[Ceiling],
    alone: dict[tuple[str, str, int], dict[str, Any] | None],
    stages: dict[tuple[str, str], dict[str, float]],
) -> Row:
    who, turns = entry.who, entry.turns
    mean, worst, frames = entry.iou
    steps = sum(map(len, turns))
    percentiles = summary(turns)
    own = who.kind == OURS and who.streams == 1
    cost = work["fp32" if who.precision == "bf16" else who.precision, who.objects]
    return {
        "contestant": who.name,
        "kind": who.kind,
        "precision": who.precision,
        "objects": who.objects,
        "streams": who.streams,
        "iou": {"mean": mean, "worst": worst, "frames": frames},
        "warm_up_steps": entry.warm_up_steps,
        "steady": entry.steady,
        "steps": steps,
        "percentiles": percentiles,
        "misses": {str(rate): misses(turns, rate) for rate in (30, 60)},
        "frames_per_second": steps / entry.seconds,
        "flops": cost.flops,
        "bytes": cost.bytes,
        "roofline": None if who.streams > 1 else _share(who, cost, limits, percentiles),
        "alone": alone.get((who.name, who.precision, who.objects)) if own else None,
        "stages": stages[who.name, who.precision] if own and who.objects == 1 else None,
        "turns_ms": turns,
    }


def _share(
    who: Contestant,
    cost: Work,
    limits: list[Ceiling],
    percentiles: dict[str, dict[str, float] | None],
) -> dict[str, float] | None:
    """Shares of the median step; None where its processor has no ceiling of this precision."""
    speeds = {limit.name: limit.per_second for limit in limits}
    median, place = percentiles["p50"], "gpu " if runs_on_gpu(who) else ""
    if median is None or not {f"{place}{who.precision}", f"{place}bytes"} <= speeds.keys():
        return None
    compute = cost.flops / speeds[f"{place}{who.precision}"]
    memory = cost.bytes / speeds[f"{place}bytes"]
    return {
        "compute": 1000 * compute / median["ms"],
        "memory": 1000 * memory / median["ms"],
        "achieved": 1000 * max(compute, memory) / median["ms"],
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))
