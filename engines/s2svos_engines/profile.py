"""The time of each layer of a step graph, as an engine's own counters tell it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from s2svos_engines.arrays import Frame, Masks
from s2svos_engines.contract import Counts, StepContract

WARM_UP = 3  # steps that are not counted


@dataclass(frozen=True)
class Layer:
    """A layer of a compiled graph.

    Args:
        node: name of the ONNX node, of the first where several were fused.
        operator: of the engine.
        kernel: what computes it, in the engine's words.
        seconds: median of a step.
    """

    node: str
    operator: str
    kernel: str
    seconds: float


def layers(steps: Iterable[Mapping[tuple[str, str, str], float]]) -> list[Layer]:
    """Return the layers, slowest first.

    Args:
        steps: seconds of each step by node, operator and kernel.
    """
    times: dict[tuple[str, str, str], list[float]] = {}
    for step in steps:
        for key, seconds in step.items():
            times.setdefault(key, []).append(seconds)
    found = [Layer(*key, statistics.median(values)) for key, values in times.items()]
    return sorted(found, key=lambda layer: -layer.seconds)


def sample_input(contract: StepContract, objects: int) -> tuple[Frame, Masks]:
    """Return a frame of noise, and masks side by side, from which a profile starts."""
    shape = contract.height, contract.width, 3
    frame = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    masks = np.zeros(contract.first_masks.sizes(Counts(objects)), np.uint8)
    for mask, columns in zip(
        masks, np.array_split(np.arange(contract.width), objects), strict=True
    ):
        mask[contract.height // 4 : -contract.height // 4, columns] = 255
    return frame, masks
