"""The search for the convolutions of a step graph that stay in fp32 beside those in int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import onnx

from s2svos_engines.closed_loop import NetworkClip, mask_iou
from s2svos_engines.cpu import cpu_count
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_export.calibrate import Activation, Clip
from s2svos_export.quantise import convolutions, quantise

PARTS = 16
TURNS, PROFILED = 3, 20  # the least counts of some turns, of a turn the median of its steps
MAX_TRIALS = 8  # at once, so that many cores do not mean many compiled graphs in memory

Part = tuple[str, ...]
"""Weights of convolutions that follow each other in the graph."""
Iou = Callable[[frozenset[str]], float]
"""Mean IoU with fp32 of the graph with the convolutions of these weights in int8."""


@dataclass(frozen=True)
class Int8Choice:
    """What is quantised.

    Args:
        weights: of the convolutions in int8.
        kept_fp32: weights of the other convolutions: those that int8 would not make faster, then
            those of the parts with the most harm for their gain.
        solo_iou: for each part, named by its first and last weights, the mean IoU with fp32 if it
            alone is in int8.
        iou: mean IoU with fp32 if all of ``weights`` are in int8.
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

    def iou(self, engine: Engine, *, frames: int | None = None, target: float = 0.0) -> float:
        """Return the mean IoU of an engine's masks with those of fp32.

        Args:
            engine: whose ``init`` graph is the one in fp32, and is not called.
            frames: over how many of them; None for all.
            target: once it is clear that the IoU is less, what it could still have become is
                returned.
        """
        expected = self._masks[:frames]
        followed = self._clip.follow(engine.runner(self._states))
        lost = 0.0
        for masks, others in zip(expected, followed, strict=False):
            lost += 1 - float(mask_iou(masks, others).mean())
            if lost > (1 - target) * len(expected):
                break
        return 1 - lost / len(expected)


class Int8Search:
    """Trials of a step graph with some of its convolutions in int8.

    Args:
        step: the step graph in fp32, as the exporter wrote it.
        activations: of its convolutions.
        load: returns an engine that runs a step graph, on so many threads, or one a core.
        reference: what the engines are compared with.
        parts: how many parts of the graph there are to choose from.
        quick_frames: over how many frames parts are compared with each other.
    """

    def __init__(
        self,
        step: bytes,
        activations: Mapping[str, Activation],
        load: Callable[[bytes, int | None], Engine],
        reference: ReferenceRun,
        *,
        parts: int = PARTS,
        quick_frames: int,
    ) -> None:
        self._step, self._activations, self._load = step, activations, load
        self._reference, self._parts, self._quick_frames = reference, parts, quick_frames

    def run(self, target: float) -> Int8Choice:
        """Return as much for int8 as a mean IoU with fp32 of at least ``target`` allows."""
        gains = self._gains()
        faster = {name: gain for name, gain in gains.items() if gain > 0}
        parts = split(faster, self._parts)
        choice = choose(
            parts, faster, self.quick_iou, lambda some: self.full_iou(some, target), target=target
        )
        slower = tuple(name for name in gains if name not in faster)
        return replace(choice, kept_fp32=(*slower, *choice.kept_fp32))

    def quick_iou(self, weights: frozenset[str]) -> float:
        """Return the mean IoU with these weights in int8 over the first frames."""
        return self._reference.iou(self._engine(weights), frames=self._quick_frames)

    def full_iou(self, weights: frozenset[str], target: float) -> float:
        """Return the mean IoU with these weights in int8 over all frames, or that it is less."""
        return self._reference.iou(self._engine(weights), target=target)

    def _gains(self) -> dict[str, float]:
        """Return how much of a step int8 saves for each convolution.

        Seconds by the engine's counters, between nothing in int8 and all of it, so that the other
        layers are computed as beside int8 (in bf16, where the processor has it). Of an engine
        without counters, the multiplications.
        """
        weights = convolutions(self._step)
        try:
            engines = [self._engine(frozenset(some), threads=None) for some in ((), weights)]
            # In turns: of two runs one may fall into a slow moment of the machine.
            turns = [[self._convolution_seconds(one) for one in engines] for _ in range(TURNS)]
        except UserError:
            return {name: float(self._activations[name].macs) for name in weights}
        floating, int8 = (
            {name: min(times[name] for times in of_one) for name in weights}
            for of_one in zip(*turns, strict=True)
        )
        return {name: floating[name] - int8[name] for name in weights}

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

    def _engine(self, weights: frozenset[str], threads: int | None = 1) -> Engine:
        # On one thread a step, since several are tried at once.
        return self._load(quantise(self._step, self._activations, weights), threads)


def choose(
    parts: Sequence[Part],
    gains: Mapping[str, float],
    quick_iou: Iou,
    full_iou: Iou,
    *,
    target: float,
) -> Int8Choice:
    """Choose what int8 takes: all but the parts with the most harm for their gain.

    A part that does more than its share of the harm that there may be is taken apart: of a stretch
    of the decoder one convolution in eleven did nearly all of it.

    Args:
        parts: of the graph, from :func:`split`.
        gains: of the convolutions, by their weights.
        quick_iou: measures a part alone, for the order of the parts.
        full_iou: measures all parts but the worst. Both are called in several threads.
        target: least mean IoU with fp32.
    """
    at_once = min(cpu_count(), MAX_TRIALS)
    with ThreadPoolExecutor(at_once) as pool:
        # What is left beside int8 may be computed in bf16, which does harm of its own.
        nothing, *alone = pool.map(quick_iou, map(frozenset, ((), *parts)))
        solo_iou = dict(zip(parts, alone, strict=True))
        share = (nothing - target) / max(1, len(parts))
        harmful = [part for part in parts if nothing - solo_iou[part] > share]
        singles = [(name,) for part in harmful for name in part]
        for part in harmful:
            del solo_iou[part]
        solo_iou |= zip(singles, pool.map(quick_iou, map(frozenset, singles)), strict=True)
        order = sorted(
            solo_iou, key=lambda part: (solo_iou[part] - nothing) / sum(gains[n] for n in part)
        )

        # How many parts stay in fp32: fewer than ``low`` do not do, ``high`` do. What is between is
        # cut by several counts at once, by one in halves.
        low, high, reached = 0, len(order), 1.0
        while low < high:
            cuts = {low + (high - low) * (cut + 1) // (at_once + 1) for cut in range(at_once)}
            counts = sorted(cuts)
            tried = pool.map(full_iou, (_names(order[count:]) for count in counts))
            for count, iou in zip(counts, tried, strict=True):
                if iou >= target:
                    high, reached = count, iou
                    break
                low = count + 1
    return Int8Choice(
        weights=_names(order[high:]),
        kept_fp32=tuple(name for part in order[:high] for name in part),
        solo_iou={f"{part[0]} .. {part[-1]}": iou for part, iou in solo_iou.items()},
        iou=reached,
    )


def split(gains: Mapping[str, float], count: int) -> list[Part]:
    """Split convolutions into at most ``count`` parts of about the same gain.

    Args:
        gains: above 0, by weights, in the graph's order.
        count: of parts, whose convolutions follow each other.
    """
    values = np.array(list(gains.values()))
    centres = (np.cumsum(values) - values / 2) / values.sum()
    parts: dict[int, list[str]] = {}
    for name, centre in zip(gains, centres, strict=True):
        parts.setdefault(int(count * centre), []).append(name)
    return [tuple(part) for part in parts.values()]


def _names(parts: Iterable[Part]) -> frozenset[str]:
    return frozenset(name for part in parts for name in part)
