"""The search for the convolutions of a step graph that stay in fp32 beside those in int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import onnx

from s2svos_engines.arrays import Masks
from s2svos_engines.closed_loop import NetworkClip, mask_iou
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_export.calibrate import Calibrated, Clip
from s2svos_export.quantise import convolutions
from s2svos_export.side_by_side import engines_at_once

PARTS = 16
TURNS, PROFILED = 3, 20  # the least of some turns counts, of a turn the median of its steps

Part = tuple[str, ...]
"""Weights of convolutions that follow each other in the graph."""
Iou = Callable[[frozenset[str]], float]
"""Mean IoU with fp32, soft or not, of the graph with the convolutions of these weights in int8."""
TrialLoader = Callable[[frozenset[str], int | None], Engine]
"""Loads an engine with the convolutions of these weights in int8, on so many threads a step.

None of them for one a core; trials at once share the cores.
"""


@dataclass(frozen=True)
class Int8Choice:
    """What is quantised.

    Args:
        weights: of the convolutions in int8.
        kept_fp32: weights of the other convolutions: those with the most harm for their time.
        solo_iou: for each part, named by its first and last weights, the mean soft IoU with fp32
            over the clips if it alone is in int8.
        iou: mean IoU with fp32 on the worst clip if all of ``weights`` are in int8.
    """

    weights: frozenset[str]
    kept_fp32: tuple[str, ...]
    solo_iou: Mapping[str, float]
    iou: float

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON types, for the manifest's ``int8``."""
        return {
            "weights": sorted(self.weights),
            "spared": list(self.kept_fp32),
            "alone": dict(self.solo_iou),
            "iou": self.iou,
        }


class ReferenceRun:
    """A clip that the fp32 graphs have followed, for int8 graphs to follow.

    Args:
        engine: with the fp32 graphs.
        clip: to follow.
        frames: how many of the clip to take after the first.
    """

    def __init__(self, engine: Engine, clip: Clip, *, frames: int) -> None:
        start = NetworkClip.of(clip, engine.contract)
        self._clip = replace(start, frames=list(islice(start.frames, frames)))
        self._states = engine.init(start.first, start.first_masks)
        self._masks = list(self._clip.follow(engine.runner(self._states)))

    def iou(self, engine: Engine, *, target: float = 0.0) -> float:
        """Return the mean IoU of an engine's masks with those of fp32.

        Args:
            engine: whose ``init`` graph is the one in fp32, and is not called.
            target: once it is clear that the IoU is less, what it could still have become is
                returned.
        """
        lost = 0.0
        for masks, others in self._follow(engine, self._masks):
            lost += 1 - float(mask_iou(masks, others).mean())
            if lost > (1 - target) * len(self._masks):
                break
        return 1 - lost / len(self._masks)

    def soft_iou(self, engine: Engine, *, frames: int) -> float:
        """Return the mean soft IoU (sum of minima by sum of maxima) over the first frames.

        Without the threshold of :meth:`iou` small harm is not lost in chance.
        """
        pairs = self._follow(engine, self._masks[:frames])
        return float(np.mean([_soft_iou(masks, others) for masks, others in pairs]))

    def _follow(self, engine: Engine, expected: Sequence[Masks]) -> Iterator[tuple[Masks, Masks]]:
        followed = self._clip.follow(engine.runner(self._states))
        return zip(expected, followed, strict=False)


class Int8Search:
    """Trials of a step graph with some of its convolutions in int8.

    Args:
        step: the step graph in fp32, as the exporter wrote it.
        calibrated: ranges and weights of its convolutions.
        loaders: of engines that run it so, in one form of int8 or the other. The first tells the
            time of its layers; on all of them what is chosen has to keep the target.
        quick_loader: of the engine that compares parts, best one that begins at once: of 25 frames
            compiling took OpenVINO as long as following them.
        references: what the engines are compared with, one for each clip.
        parts: how many parts of the graph there are to choose from.
        quick_frames: over how many frames of each clip parts are compared with each other.
    """

    def __init__(
        self,
        step: bytes,
        calibrated: Mapping[str, Calibrated],
        loaders: Sequence[TrialLoader],
        quick_loader: TrialLoader,
        references: Sequence[ReferenceRun],
        *,
        parts: int = PARTS,
        quick_frames: int,
    ) -> None:
        self._step, self._calibrated = step, calibrated
        self._loaders, self._quick_loader = loaders, quick_loader
        self._references, self._parts, self._quick_frames = references, parts, quick_frames
        self._at_once, self._threads = engines_at_once(len(step))

    def run(self, target: float) -> Int8Choice:
        """Return as much for int8 as a mean IoU with fp32 of at least ``target`` allows."""
        seconds = self._seconds()
        return choose(
            split(seconds, self._parts),
            seconds,
            self.quick_iou,
            [partial(self.full_iou, load, target) for load in self._loaders],
            target=target,
            at_once=self._at_once,
        )

    def quick_iou(self, weights: frozenset[str]) -> float:
        """Return the mean soft IoU with these weights in int8 over the clips' first frames."""
        engine, frames = self._quick_loader(weights, self._threads), self._quick_frames
        return float(np.mean([one.soft_iou(engine, frames=frames) for one in self._references]))

    def full_iou(self, load: TrialLoader, target: float, weights: frozenset[str]) -> float:
        """Return the mean IoU with these weights in int8 on the worst clip, or that it is less."""
        engine, least = load(weights, self._threads), 1.0
        for reference in self._references:
            least = min(least, reference.iou(engine, target=target))
            if least < target:
                break
        return least

    def _seconds(self) -> dict[str, float]:
        """Return the time of each convolution with none of them in int8, by the engine's counters.

        The other layers are computed as beside int8 (in bf16, where the processor has it). Of an
        engine without counters, the multiplications.
        """
        weights = convolutions(self._step)
        try:
            engine = self._loaders[0](frozenset(), None)
            turns = [self._convolution_seconds(engine) for _ in range(TURNS)]
        except UserError:
            return {name: float(self._calibrated[name].macs) for name in weights}
        return {name: min(times[name] for times in turns) for name in weights}

    def _convolution_seconds(self, engine: Engine) -> dict[str, float]:
        seconds = {one.node: one.seconds for one in engine.profile_step(1, repeats=PROFILED)}
        nodes = onnx.load_model_from_string(self._step).graph.node
        convolved = [node for node in nodes if node.op_type == "Conv"]
        if not {node.name for node in convolved} <= seconds.keys():
            raise UserError("The engine's layers have other names than the graph's.")
        found: dict[str, float] = {}
        for node in convolved:
            found[node.input[1]] = found.get(node.input[1], 0) + seconds[node.name]
        return found


def choose(
    parts: Sequence[Part],
    seconds: Mapping[str, float],
    quick_iou: Iou,
    full_ious: Sequence[Iou],
    *,
    target: float,
    at_once: int = 1,
) -> Int8Choice:
    """Choose what int8 takes: all but the parts with the most harm for their time.

    Errors of parts are independent, so that they add up by their squares: the loss (1 - IoU) of
    several is the root of the sum of what each loses, squared. Harm is such a square. Ranked by the
    loss itself, 1.5 x as much time stayed in fp32 for no more IoU: many small losses cost hardly
    more than the largest among them.

    What int8 saves is not asked of each: a depthwise convolution that is slower by itself keeps the
    chain around it in 8 bits. Left out, those and others without a gain of their own made a step
    take 1.04 x the time on OpenVINO, 1.1 x on ONNX Runtime.

    A part that does more than its share of the harm that there may be is taken apart: of a stretch
    of the decoder one convolution in eleven did nearly all of it.

    Args:
        parts: of the graph, from :func:`split`.
        seconds: of each convolution, by its weights.
        quick_iou: measures a part alone, for the order of the parts.
        full_ious: measure all parts but the worst, one on each engine: in closed loop two of them
            differed by 0.008. All are called in several threads.
        target: least mean IoU with fp32, on every engine.
        at_once: how many are measured side by side.
    """
    with ThreadPoolExecutor(at_once) as pool:
        solo_iou = dict(zip(parts, pool.map(quick_iou, map(frozenset, parts)), strict=True))
        share = (1 - target) ** 2 / max(1, len(parts))
        apart = [part for part in parts if len(part) > 1 and _harm(solo_iou[part]) > share]
        singles = [(name,) for part in apart for name in part]
        for part in apart:
            del solo_iou[part]
        solo_iou |= zip(singles, pool.map(quick_iou, map(frozenset, singles)), strict=True)
        harm = {
            part: _harm(iou) / sum(seconds[name] for name in part) for part, iou in solo_iou.items()
        }
        order = sorted(harm, key=harm.__getitem__, reverse=True)

        def fewest(low: int, full_iou: Iou) -> tuple[int, float]:
            """Return how many parts stay in fp32, at least ``low``, and the IoU then.

            What is possible is cut by several counts at once, by one in halves.
            """
            high, reached = len(order), 1.0
            while low < high:
                cuts = {low + (high - low) * (cut + 1) // (at_once + 1) for cut in range(at_once)}
                counts = sorted(cuts)
                tried = pool.map(full_iou, (_names(order[count:]) for count in counts))
                for count, iou in zip(counts, tried, strict=True):
                    if iou >= target:
                        high, reached = count, iou
                        break
                    low = count + 1
            return high, reached

        first, *others = full_ious
        kept, reached = fewest(0, first)
        chosen = _names(order[kept:])
        for full_iou, iou in zip(others, pool.map(lambda one: one(chosen), others), strict=True):
            if iou < target:
                kept, iou = fewest(kept + 1, full_iou)
            reached = min(reached, iou)
    return Int8Choice(
        weights=_names(order[kept:]),
        kept_fp32=tuple(name for part in order[:kept] for name in part),
        solo_iou={f"{part[0]} .. {part[-1]}": iou for part, iou in solo_iou.items()},
        iou=reached,
    )


def split(seconds: Mapping[str, float], count: int) -> list[Part]:
    """Split convolutions into at most ``count`` parts of about the same time.

    Args:
        seconds: above 0, by weights, in the graph's order.
        count: of parts, whose convolutions follow each other.
    """
    values = np.array(list(seconds.values()))
    centres = (np.cumsum(values) - values / 2) / values.sum()
    parts: dict[int, list[str]] = {}
    for name, centre in zip(seconds, centres, strict=True):
        parts.setdefault(int(count * centre), []).append(name)
    return [tuple(part) for part in parts.values()]


def _soft_iou(masks: Masks, others: Masks) -> float:
    """Return the mean over objects, uint8 [N, h, w]; two empty masks have 1."""
    common, both = (function(masks, others).sum((1, 2)) for function in (np.minimum, np.maximum))
    return float(np.where(both > 0, common / np.maximum(both, 1), 1).mean())


def _harm(iou: float) -> float:
    return (1 - iou) ** 2


def _names(parts: Iterable[Part]) -> frozenset[str]:
    return frozenset(name for part in parts for name in part)
