"""Which convolutions int8 spares: those without which the masks drift too far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.contract import StepContract
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import Letterbox
from s2svos_export.calibrate import Clip
from s2svos_export.drift_measure import iou
from s2svos_export.quantise import parts

PARTS = 16

Trial = Callable[[frozenset[str]], float]
"""Mean IoU with fp32 of the graph with these convolutions in int8."""


@dataclass(frozen=True)
class Choice:
    """What is quantised.

    Args:
        weights: of the convolutions in int8.
        spared: of those that are not, the most harmful part first.
        alone: for each part, named by its first and last weights, the mean IoU with fp32 when it
            alone is in int8.
        iou: of all of ``weights`` together.
    """

    weights: frozenset[str]
    spared: tuple[str, ...]
    alone: dict[str, float]
    iou: float


def choose(costs: Mapping[str, int], glance: Trial, trial: Trial, *, target: float) -> Choice:
    """As much of a graph as the target allows, least first what harms most for what it saves.

    Args:
        costs: multiplications of all convolutions by their weights, in the graph's order.
        glance: measures quickly, for the order.
        trial: measures.
        target: least mean IoU with fp32.
    """
    stretches = parts(costs, PARTS)
    alone = [glance(frozenset(stretch)) for stretch in stretches]
    harm = [
        (1 - reached) / sum(costs[name] for name in stretch)
        for reached, stretch in zip(alone, stretches, strict=True)
    ]
    order = [stretches[index] for index in np.argsort(harm, kind="stable")[::-1]]

    # Bisection: fewer than ``least`` spared are too few, ``spared`` are enough.
    least, spared, reached = 0, len(order), 1.0
    while least < spared:
        middle = (least + spared) // 2
        found = trial(_names(order[middle:]))
        if found >= target:
            spared, reached = middle, found
        else:
            least = middle + 1
    chosen = _names(order[spared:])
    return Choice(
        weights=chosen,
        spared=tuple(name for stretch in order[:spared] for name in stretch),
        alone={f"{s[0]} .. {s[-1]}": a for s, a in zip(stretches, alone, strict=True)},
        iou=reached,
    )


def _names(stretches: Iterable[tuple[str, ...]]) -> frozenset[str]:
    return frozenset(name for stretch in stretches for name in stretch)


class Course:
    """A clip that fp32 has followed, for others to follow.

    Args:
        engine: with the fp32 graphs.
        contract: of the graphs.
        clip: to follow.
        frames: of the clip to take after the first.
    """

    def __init__(self, engine: Engine, contract: StepContract, clip: Clip, *, frames: int) -> None:
        pairs = iter(clip)
        frame, ids = next(pairs)
        fit = Letterbox.of(frame.shape[:2], (contract.height, contract.width))
        objects = np.unique(ids[ids > 0])
        self._masks = np.stack(
            [fit.resize((ids == i).astype(np.uint8) * np.uint8(255)) for i in objects]
        )
        self._first = fit.resize(frame)
        self._pictures = [fit.resize(f) for f, _ in islice(pairs, frames)]
        self._wanted = list(self._follow(engine))

    def iou(self, engine: Engine, frames: int | None = None) -> float:
        """Mean IoU of an engine's masks with those of fp32, over so many frames or all."""
        pairs = zip(self._wanted, self._follow(engine, frames), strict=False)
        return float(np.mean([iou(wanted, got) for wanted, got in pairs]))

    def _follow(self, engine: Engine, frames: int | None = None) -> list[NDArray[np.uint8]]:
        runner = engine.runner(engine.init(self._first, self._masks))
        return [runner.step(picture).copy() for picture in self._pictures[:frames]]
