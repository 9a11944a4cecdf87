"""The measurement of a bundle: its groups one after the other, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.latency.gpu import gpu_state
from benchmarks.latency.groups import Group, groups
from benchmarks.latency.isolated import measure_alone, peak_mib
from benchmarks.latency.records import BENCHMARK, Row, SuiteResult, label
from benchmarks.latency.roofline import ceilings, gpu_ceilings
from benchmarks.latency.stages import stage_times
from benchmarks.latency.statistics import misses, summary
from benchmarks.latency.timing import Agreement, Clock, Measurement, compare, warm_up
from benchmarks.latency.variants import (
    OURS,
    REFERENCE,
    Pictures,
    Variant,
    VariantFactory,
    runs_on_gpu,
)
from benchmarks.ponds import draw_ponds
from s2svos.environment import environment
from s2svos_engines.bundle import Bundle
from s2svos_engines.cpu import cpu_count
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import object_masks
from s2svos_export.work import Work, count

if TYPE_CHECKING:
    from rich.status import Status

ALONE_SECONDS = 300.0  # after which a process of its own is given up
MIN_ROUNDS = 3  # fewer do not show how they vary
NO_TIME = "does not fit in the time"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        seconds: for the whole bundle.
        objects, streams: counts, rising from 1.
        frames: on which masks are compared with the reference.
        warm_up: seconds of a variant at most, and as many for its comparison and its stages.
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
        """Return a plan that fits into minutes."""
        return cls(seconds, (1, 10), (1, 8), 8, 1.0, False, threads or cpu_count())

    @classmethod
    def full(cls, seconds: float, threads: int | None) -> Plan:
        """Return a plan of all that the suite has."""
        return cls(seconds, (1, 2, 10), (1, 8, 16), 40, 1.5, True, threads or cpu_count())


class Reference:
    """Masks of a number of objects by the reference engine, computed when they are first needed."""

    def __init__(self, factory: VariantFactory, clip: Sequence[Pictures], masks: Pictures) -> None:
        self._loop = factory.loop(
            Variant(REFERENCE[0], OURS, REFERENCE[1], len(masks)), clip[0], masks
        )
        self._clip, self._masks = clip, list[Pictures]()

    def __getitem__(self, index: int) -> Pictures:
        while len(self._masks) <= index:
            self._masks.append(self._loop.step(self._clip[1 + len(self._masks)]).copy())
        return self._masks[index]


def measure(
    path: Path,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    video: Path | None = None,
    clock: Clock = time.perf_counter,
) -> SuiteResult:
    """Measure a bundle.

    Args:
        path: of the bundle.
        plan: how much, and in how much time.
        checkpoint: of the network that PyTorch's peers run; None for the bundle's graphs.
        video: that is decoded end to end; None draws one.
        clock: of the plan's budget; steps are timed by the real one.

    Raises:
        UserError: the bundle cannot be read, onnxruntime or onnx is not installed, or the time is
            too short for anything.
    """
    from rich.console import Console

    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            "The suite needs onnxruntime and onnx", 'pip install "s2svos[cpu,train]"'
        ) from error
    began = clock()
    before = {"environment": environment(), "gpu": gpu_state()}
    with Console(stderr=True).status(f"{path.name}: preparing") as status:
        suite = SuiteRun(path, plan, checkpoint=checkpoint, video=video, clock=clock, status=status)
        bundle = suite.bundle
        todo = groups(bundle, plan.objects, plan.streams, everything=plan.everything)
        while todo:
            weights = [_weight(group) for group in todo]
            group = todo.pop(0)
            suite.run(group, share=len(group.variants) / sum(weights))
    if not suite.rows:
        raise UserError(f"Nothing fits into {plan.seconds:g} seconds", "give more --seconds")
    return {
        "benchmark": BENCHMARK,
        "bundle": bundle.sha256,
        "name": path.name,
        "preset": bundle.manifest.preset or path.stem,
        "size": [bundle.contract.height, bundle.contract.width],
        "threads": plan.threads,
        "torch_network": "the checkpoint's" if checkpoint else "the bundle's graphs",
        "reference": " ".join(REFERENCE),
        "ceilings": {limit.name: limit.per_second for limit in suite.limits},
        "groups": suite.groups,
        "rows": [{**row, "roofline": suite.roofline(row)} for row in suite.rows],
        "skipped": suite.skipped,
        "seconds": clock() - began,
        "peak_host_mib": peak_mib(),
        "gpu_before": before["gpu"],
        "gpu_after": gpu_state(),
        "environment": before["environment"],
    }


class PictureClip(NamedTuple):
    """Frames at the network's size, and the objects on the first.

    Args:
        frames: uint8 [H, W, 3] each.
        masks: uint8 [N, H, W], 0 and 255; no two overlap, since objects compete for every pixel.
    """

    frames: list[Pictures]
    masks: Pictures


def picture_clip(bundle: Bundle, frames: int, objects: int = 1) -> PictureClip:
    """Draw a pond, or several side by side, with an animal to follow in each."""
    import cv2

    size = (bundle.contract.width, bundle.contract.height)
    drawn = list(draw_ponds(frames, objects))
    masks = object_masks(drawn[0][1], range(1, objects + 1))
    return PictureClip(
        [np.asarray(cv2.resize(frame, size), np.uint8) for frame, _ in drawn],
        np.stack([np.asarray(cv2.resize(mask, size), np.uint8) for mask in masks]),
    )


class Budget:
    """Seconds that are left, by a clock.

    Args:
        seconds: from now on.
        clock: that tells them.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.now = clock
        self.end = clock() + seconds

    def left(self) -> float:
        """Return the seconds that are left; less than 0 if it is over."""
        return self.end - self.now()


class SuiteRun:
    """The measurement of a bundle's groups.

    Args:
        path: of the bundle.
        plan: how much.
        checkpoint, video, clock: see :func:`measure`.
        status: shows what is being done.

    Attributes:
        bundle: that is measured.
        limits: ceilings of the machine, measured in every round.
        rows: of the results, a variant each.
        groups: rounds and control of each group, by name.
        skipped: variants that were left out, with the reason.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        *,
        checkpoint: Path | None,
        video: Path | None,
        clock: Clock,
        status: Status,
    ) -> None:
        self._budget = Budget(plan.seconds, clock)
        self.bundle, self._plan = Bundle.open(path), plan
        self._video, self._status = video, status
        self._clips: dict[int, PictureClip] = {}
        self._factory = VariantFactory(self.bundle, threads=plan.threads, checkpoint=checkpoint)
        self.limits = [*ceilings(plan.threads), *gpu_ceilings()]
        self.rows: list[Row] = []
        self.groups: dict[str, dict[str, Any]] = {}
        self.skipped: list[dict[str, Any]] = []
        self._references: dict[int, Reference] = {}
        self._iou: dict[Variant, Agreement] = {}
        self._work: dict[tuple[str, int], Work] = {}
        self._preparing: dict[str, float] = {}  # seconds it took for a variant of a name, at most

    def run(self, group: Group, *, share: float) -> None:
        """Load a group, measure it in rounds, and free it.

        Args:
            group: of variants.
            share: of the time that is left. The rounds take no less than half as long as loading
                and warming up, lest they be few.
        """
        began = self._budget.now()
        until = began + share * self._budget.left()
        measurements = self._load(group)
        if not measurements:
            return
        loaded = self._budget.now()
        self._run_rounds(group, measurements, max(until, loaded + (loaded - began) / 2))
        stages = {one.variant: self._stages(one.variant) for one in measurements}
        rows = [self._row(group, one, stages[one.variant]) for one in measurements]
        del measurements
        self._factory.clear()
        for row in rows:
            row["alone"] = self._alone(row)
        self.rows += rows

    def _load(self, group: Group) -> list[Measurement]:
        """Prepare the variants of a group, in their order, as long as the budget allows.

        The first that does not fit ends it: all further ones are skipped.
        """
        measurements: list[Measurement] = []
        for place, variant in enumerate(group.variants):
            if not self._fits(variant, measurements):
                self._skip(group, group.variants[place:], NO_TIME)
                break
            self._show(f"{group.name}: {variant.name} {variant.precision} warms up")
            try:
                measurement = self._prepare(variant)
            # Whatever a peer's library raises, the others are to be measured; the reason is kept.
            except Exception as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self._skip(group, [variant], reason[0])
                continue
            if self._left_after_rounds([*measurements, measurement]) <= 0:
                self._skip(group, group.variants[place:], NO_TIME)
                break
            measurements.append(measurement)
        return measurements

    def _fits(self, variant: Variant, measurements: Sequence[Measurement]) -> bool:
        """Return whether there is time to prepare a variant, as far as earlier ones tell."""
        return self._left_after_rounds(measurements) > self._preparing.get(variant.name, 0)

    def roofline(self, row: Row) -> dict[str, float] | None:
        """Return a row's shares of the ceilings; None where its processor has none of its kind."""
        speeds = {limit.name: limit.per_second for limit in self.limits}
        seconds, place = row["percentiles"]["p50"]["ms"] / 1000, "gpu " if row["on_gpu"] else ""
        names = f"{place}{row['precision']}", f"{place}bytes"
        if row["streams"] > 1 or not speeds.keys() >= set(names):
            return None
        compute = row["flops"] / speeds[names[0]] / seconds
        memory = row["bytes"] / speeds[names[1]] / seconds
        return {"compute": compute, "memory": memory, "achieved": max(compute, memory)}

    def _left_after_rounds(self, measurements: Sequence[Measurement]) -> float:
        """Return the seconds that are left once some have run the fewest rounds."""
        return self._budget.left() - MIN_ROUNDS * sum(one.round_seconds for one in measurements)

    def _show(self, words: str) -> None:
        left = max(0.0, self._budget.left())
        self._status.update(f"{self.bundle.path.name}, {left:.0f} s left: {words}")

    def _skip(self, group: Group, variants: Sequence[Variant], why: str) -> None:
        self.skipped += [
            {
                "group": group.name,
                "contestant": variant.name,
                "precision": variant.precision,
                "objects": variant.objects,
                "streams": variant.streams,
                "why": why,
            }
            for variant in variants
        ]

    def _prepare(self, variant: Variant) -> Measurement:
        began, clock, seconds = self._budget.now(), self._budget.now, self._plan.warm_up
        objects = variant.objects
        if objects not in self._references:
            self._clips[objects] = picture_clip(self.bundle, self._plan.frames + 1, objects)
            self._references[objects] = Reference(self._factory, *self._clips[objects])
        clip, masks = self._clips[objects]
        count_of_loops = 1 if variant.in_one_loop else variant.streams
        loops = [self._factory.loop(variant, clip[0], masks) for _ in range(count_of_loops)]
        if variant not in self._iou:
            reference = self._references[objects]
            self._iou[variant] = compare(variant, loops[0], clip, reference, seconds, clock=clock)
        self._cost(variant)
        measurement = warm_up(variant, loops, clip, self._iou[variant], seconds, clock=clock)
        took = self._budget.now() - began
        self._preparing[variant.name] = max(took, self._preparing.get(variant.name, 0))
        return measurement

    def _run_rounds(self, group: Group, measurements: list[Measurement], until: float) -> None:
        until, began = min(until, self._budget.end), [self._budget.now()]
        # The last round is to end in time, if it takes no longer than the one before.
        while len(began) <= MIN_ROUNDS or 2 * began[-1] - began[-2] < until:
            self._show(f"{group.name}: round {len(began)}")
            for limit in self.limits:
                limit.measure_round()
            for measurement in measurements:
                measurement.measure_round(self._clips[measurement.variant.objects].frames)
            began.append(self._budget.now())
        rounds = len(began) - 1
        control = next(limit.rounds for limit in self.limits if limit.name == "fp32")
        self.groups[group.name] = {"turns": rounds, "control_ms": control[-rounds:]}

    def _stages(self, variant: Variant) -> dict[str, float] | None:
        """Return the times of the stages around an engine alone with one object; measured once."""
        name, precision = variant.name, variant.precision
        known = any(
            (row["contestant"], row["precision"]) == (name, precision) and row["stages"]
            for row in self.rows
        )
        alone = (variant.kind, variant.objects, variant.streams) == (OURS, 1, 1)
        if known or not alone or self._budget.left() < 0:
            return None
        self._show(f"{variant.name} {variant.precision} end to end")
        contract = self.bundle.contract
        return stage_times(
            self._factory.engine(variant.name, variant.precision),
            (contract.height, contract.width),
            video=self._video,
            frames=self._plan.frames + 1,
            seconds=self._plan.warm_up,
        )

    def _alone(self, row: Row) -> dict[str, Any] | None:
        """Measure an engine with the fewest and the most objects, once, in a process of its own."""
        names = ("contestant", "precision", "objects")
        own = [row[name] for name in names]
        known = any(
            [other[name] for name in names] == own and other["alone"] for other in self.rows
        )
        counted = row["objects"] in (self._plan.objects[0], self._plan.objects[-1])
        limit = min(ALONE_SECONDS, self._budget.left())
        if known or not counted or row["kind"] != OURS or row["streams"] > 1 or limit < 1:
            return None
        self._show(f"{label(row)} in a process of its own")
        engine, precision, objects = own
        return measure_alone(
            self.bundle.path, engine, precision, objects, self._plan.threads, limit=limit
        )

    def _cost(self, variant: Variant) -> Work:
        """Return the work of a frame; peers may compute in a precision that the bundle lacks."""
        precision = variant.precision if variant.precision in self.bundle.precisions else "fp32"
        key = precision, variant.objects
        if key not in self._work:
            graph = self.bundle.graph("step", precision=precision)
            self._work[key] = count(graph, objects=variant.objects)
        return self._work[key]

    def _row(self, group: Group, measurement: Measurement, stages: dict[str, float] | None) -> Row:
        variant, rounds = measurement.variant, measurement.rounds
        mean, worst, frames = measurement.iou
        steps = sum(map(len, rounds))
        frames_a_step = variant.streams if variant.in_one_loop else 1
        cost = self._cost(variant)
        return {
            "group": group.name,
            "contestant": variant.name,
            "kind": variant.kind,
            "precision": variant.precision,
            "objects": variant.objects,
            "streams": variant.streams,
            "on_gpu": runs_on_gpu(variant),
            "iou": {"mean": mean, "worst": worst, "frames": frames},
            "warm_up_steps": measurement.warm_up_steps,
            "steady": measurement.steady,
            "steps": steps,
            "percentiles": summary(rounds),
            "misses": {str(rate): misses(rounds, rate) for rate in (30, 60)},
            "frames_per_second": steps * frames_a_step / measurement.seconds,
            "flops": cost.flops,
            "bytes": cost.bytes,
            "stages": stages,
            "turns_ms": rounds,
        }


def _weight(group: Group) -> int:
    """Return a group's share of the time: one a variant, and one for the start of each engine."""
    return len(group.variants) + sum(variant.kind == OURS for variant in group.variants)
