"""One bundle's measurement: its groups one after the other, in a time that is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.latency.gpu import gpu_state
from benchmarks.latency.groups import Group, groups
from benchmarks.latency.isolated import measure_alone, peak_mib
from benchmarks.latency.records import BENCHMARK, Heat, Row, label
from benchmarks.latency.roofline import Work, ceilings, count, gpu_ceilings
from benchmarks.latency.stages import stage_times
from benchmarks.latency.statistics import misses, summary
from benchmarks.latency.timing import Entry, Overlap, compare, warm_up
from benchmarks.latency.variants import (
    OURS,
    REFERENCE,
    Contestant,
    Pictures,
    Workshop,
    runs_on_gpu,
)
from s2svos.environment import environment
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from rich.status import Status

ALONE_SECONDS = 60.0  # after which a process of its own is given up
FEWEST_TURNS = 3  # without which there is no telling how they vary
NO_TIME = "does not fit in the time"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        seconds: for the whole heat.
        objects, streams: counts, rising from 1.
        frames: on which masks are compared with the reference.
        warm_up: seconds of a contestant at most, and as many for its comparison and its stages.
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
        return cls(seconds, (1, 10), (1, 8), 8, 1.0, False, threads or _cores())

    @classmethod
    def full(cls, seconds: float, threads: int | None) -> Plan:
        """All that the suite has."""
        return cls(seconds, (1, 2, 10), (1, 8, 16), 40, 1.5, True, threads or _cores())


class Reference:
    """Masks of a number of objects by the reference engine, computed when first asked for."""

    def __init__(self, workshop: Workshop, clip: Sequence[Pictures], masks: Pictures) -> None:
        self._loop = workshop.loop(
            Contestant(REFERENCE[0], OURS, REFERENCE[1], len(masks)), clip[0], masks
        )
        self._clip, self._masks = clip, list[Pictures]()

    def __getitem__(self, index: int) -> Pictures:
        while len(self._masks) <= index:
            self._masks.append(self._loop.step(self._clip[1 + len(self._masks)]).copy())
        return self._masks[index]


def measure(path: Path, plan: Plan, *, checkpoint: Path | None, video: Path | None) -> Heat:
    """Measures a bundle.

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
    end = time.perf_counter() + plan.seconds
    before = {"environment": environment(), "gpu": gpu_state()}
    with Console(stderr=True).status(f"{path.name}: preparing") as status:
        race = Race(path, plan, end, checkpoint=checkpoint, video=video, status=status)
        bundle = race.bundle
        todo = groups(bundle, plan.objects, plan.streams, everything=plan.everything)
        while todo:
            group = todo.pop(0)
            left = end - time.perf_counter()
            weight = sum(map(_weight, (group, *todo)))
            share = left * len(group.contestants) / weight
            race.run(group, time.perf_counter() + share)
    if not race.rows:
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
        "ceilings": {limit.name: limit.per_second for limit in race.limits},
        "groups": race.groups,
        "rows": [{**row, "roofline": race.roofline(row)} for row in race.rows],
        "skipped": race.skipped,
        "seconds": plan.seconds + time.perf_counter() - end,
        "peak_host_mib": peak_mib(),
        "gpu_before": before["gpu"],
        "gpu_after": gpu_state(),
        "environment": before["environment"],
    }


def picture_clip(bundle: Bundle, frames: int) -> tuple[list[Pictures], Pictures]:
    """Drawn frames at the network's size, and the mask, uint8 [H, W], of one object on the first.

    Sizes below the scene's least are cut from a larger drawing.
    """
    import cv2

    from s2svos.sample.render import render

    size = (bundle.contract.width, bundle.contract.height)
    drawn = list(render(length=frames))
    clip = [np.asarray(cv2.resize(frame, size), np.uint8) for frame, _ in drawn]
    mask = (drawn[0][1] == drawn[0][1].max()).astype(np.uint8) * np.uint8(255)
    return clip, np.asarray(cv2.resize(mask, size), np.uint8)


class Race:
    """What the groups of a bundle share, and what came of them.

    Args:
        path: of the bundle.
        plan: how much.
        end: when all has to be over, by ``time.perf_counter``.
        checkpoint, video: see :func:`measure`.
        status: tells what is being done.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        end: float,
        *,
        checkpoint: Path | None,
        video: Path | None,
        status: Status,
    ) -> None:
        self.bundle, self._plan, self._end = Bundle.open(path), plan, end
        self._video, self._status = video, status
        self._clip, self._first = picture_clip(self.bundle, plan.frames + 1)
        self._workshop = Workshop(self.bundle, threads=plan.threads, checkpoint=checkpoint)
        self.limits = [*ceilings(plan.threads), *gpu_ceilings()]
        self.rows: list[Row] = []
        self.groups: dict[str, dict[str, Any]] = {}
        self.skipped: list[dict[str, Any]] = []
        self._references: dict[int, Reference] = {}
        self._overlaps: dict[Contestant, Overlap] = {}
        self._work: dict[tuple[str, int], Work] = {}
        self._took: dict[str, float] = {}  # seconds of preparing a contestant of a name, at most

    def run(self, group: Group, share: float) -> None:
        """Loads a group, measures it in turns until ``share``, and lets go of it.

        Turns go on beyond it until they have taken half as long as preparing, lest they be few.
        From the first on who would leave too little time for the fewest turns, all are left out.
        """
        entries: list[Entry] = []
        began, fits = time.perf_counter(), True
        for who in group.contestants:
            fits = fits and self._left(entries) > self._took.get(who.name, 0)
            if not fits:
                self._skip(group, who, NO_TIME)
                continue
            self._say(f"{group.name}: {who.name} {who.precision} warms up")
            try:
                entry = self._prepare(who)
            # Whatever a peer's library raises, the others are to be measured; the reason is kept.
            except Exception as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self._skip(group, who, reason[0])
                continue
            fits = self._left([*entries, entry]) > 0
            if fits:
                entries.append(entry)
            else:
                self._skip(group, who, NO_TIME)
        if not entries:
            return
        prepared = time.perf_counter()
        self._take_turns(group, entries, max(share, prepared + (prepared - began) / 2))
        stages = {entry.who: self._stages(entry.who) for entry in entries}
        found = [self._row(group, entry, stages[entry.who]) for entry in entries]
        del entries
        self._workshop.clear()
        for row in found:
            row["alone"] = self._alone(row)
        self.rows += found

    def roofline(self, row: Row) -> dict[str, float] | None:
        """Shares of a row's median step; None where its processor has no ceiling of its kind."""
        speeds = {limit.name: limit.per_second for limit in self.limits}
        seconds, place = row["percentiles"]["p50"]["ms"] / 1000, "gpu " if row["on_gpu"] else ""
        names = f"{place}{row['precision']}", f"{place}bytes"
        if row["streams"] > 1 or not speeds.keys() >= set(names):
            return None
        compute = row["flops"] / speeds[names[0]] / seconds
        memory = row["bytes"] / speeds[names[1]] / seconds
        return {"compute": compute, "memory": memory, "achieved": max(compute, memory)}

    def _left(self, entries: Sequence[Entry]) -> float:
        """Seconds that remain when some have taken the fewest turns."""
        turn = sum(entry.turn_seconds for entry in entries)
        return self._end - time.perf_counter() - FEWEST_TURNS * turn

    def _say(self, words: str) -> None:
        left = max(0.0, self._end - time.perf_counter())
        self._status.update(f"{self.bundle.path.name}, {left:.0f} s left: {words}")

    def _skip(self, group: Group, who: Contestant, why: str) -> None:
        names = ("contestant", "precision", "objects", "streams")
        values = (who.name, who.precision, who.objects, who.streams)
        fields = dict(zip(names, values, strict=True))
        self.skipped.append({"group": group.name, **fields, "why": why})

    def _prepare(self, who: Contestant) -> Entry:
        began = time.perf_counter()
        # Shifted, so that no two objects are the same.
        masks = np.stack([np.roll(self._first, 8 * index, axis=1) for index in range(who.objects)])
        if who.objects not in self._references:
            self._references[who.objects] = Reference(self._workshop, self._clip, masks)
        count_of_loops = 1 if who.in_one_loop else who.streams
        loops = [self._workshop.loop(who, self._clip[0], masks) for _ in range(count_of_loops)]
        seconds = self._plan.warm_up
        if who not in self._overlaps:
            reference = self._references[who.objects]
            self._overlaps[who] = compare(who, loops[0], self._clip, reference, seconds)
        self._cost(who)
        entry = warm_up(who, loops, self._clip, self._overlaps[who], seconds)
        took = time.perf_counter() - began
        self._took[who.name] = max(took, self._took.get(who.name, 0))
        return entry

    def _take_turns(self, group: Group, entries: list[Entry], until: float) -> None:
        until, began = min(until, self._end), [time.perf_counter()]
        # The last turn is to end in time, if it takes no longer than the one before.
        while len(began) <= FEWEST_TURNS or 2 * began[-1] - began[-2] < until:
            self._say(f"{group.name}: turn {len(began)}")
            for limit in self.limits:
                limit.turn()
            for entry in entries:
                entry.turn(self._clip)
            began.append(time.perf_counter())
        turns = len(began) - 1
        control = next(limit.turns for limit in self.limits if limit.name == "fp32")
        self.groups[group.name] = {"turns": turns, "control_ms": control[-turns:]}

    def _stages(self, who: Contestant) -> dict[str, float] | None:
        """Of ours alone with one object, once."""
        known = any(
            (row["contestant"], row["precision"]) == (who.name, who.precision) and row["stages"]
            for row in self.rows
        )
        if known or (who.kind, who.objects, who.streams) != (OURS, 1, 1) or self._left([]) < 0:
            return None
        self._say(f"{who.name} {who.precision} end to end")
        contract = self.bundle.contract
        return stage_times(
            self._workshop.engine(who.name, who.precision),
            (contract.height, contract.width),
            video=self._video,
            frames=self._plan.frames + 1,
            seconds=self._plan.warm_up,
        )

    def _alone(self, row: Row) -> dict[str, Any] | None:
        """Of ours with the fewest and the most objects, once, in a process of its own."""
        names = ("contestant", "precision", "objects")
        who = [row[name] for name in names]
        known = any(
            [other[name] for name in names] == who and other["alone"] for other in self.rows
        )
        counts = (self._plan.objects[0], self._plan.objects[-1])
        limit = min(ALONE_SECONDS, self._left([]))
        if known or row["kind"] != OURS or row["streams"] > 1 or who[2] not in counts or limit < 1:
            return None
        self._say(f"{label(row)} in a process of its own")
        engine, precision, objects = who
        return measure_alone(
            self.bundle.path, engine, precision, objects, self._plan.threads, limit=limit
        )

    def _cost(self, who: Contestant) -> Work:
        """Of a frame; peers may compute in a precision that the bundle has no graphs of."""
        precision = who.precision if who.precision in self.bundle.precisions else "fp32"
        key = precision, who.objects
        if key not in self._work:
            graph = self.bundle.graph("step", precision=precision)
            self._work[key] = count(graph, objects=who.objects)
        return self._work[key]

    def _row(self, group: Group, entry: Entry, stages: dict[str, float] | None) -> Row:
        who, turns = entry.who, entry.turns
        mean, worst, frames = entry.iou
        steps = sum(map(len, turns))
        frames_a_step = who.streams if who.in_one_loop else 1
        cost = self._cost(who)
        return {
            "group": group.name,
            "contestant": who.name,
            "kind": who.kind,
            "precision": who.precision,
            "objects": who.objects,
            "streams": who.streams,
            "on_gpu": runs_on_gpu(who),
            "iou": {"mean": mean, "worst": worst, "frames": frames},
            "warm_up_steps": entry.warm_up_steps,
            "steady": entry.steady,
            "steps": steps,
            "percentiles": summary(turns),
            "misses": {str(rate): misses(turns, rate) for rate in (30, 60)},
            "frames_per_second": steps * frames_a_step / entry.seconds,
            "flops": cost.flops,
            "bytes": cost.bytes,
            "stages": stages,
            "turns_ms": turns,
        }


def _weight(group: Group) -> int:
    """Shares of the time: one for each contestant's turns, one for the start-up of each of ours."""
    return len(group.contestants) + sum(who.kind == OURS for who in group.contestants)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
