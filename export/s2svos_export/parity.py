"""Does a bundle track as the network in PyTorch does?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from s2svos_engines.engine import Engine
from s2svos_engines.geometry import Fit
from s2svos_export.graphs import StepNetwork

LEAST_FRAMES = 50


@dataclass(frozen=True)
class Parity:
    """Closed-loop comparison over a clip, each side on its own state.

    Args:
        frames: how many were compared.
        mean_iou: of the thresholded masks, mean over frames and objects.
        worst_iou: of one object on one frame.
        worst_frame: where that was.
        state_error: for each state, the largest error relative to the state's own RMS.
        engine: what ran the graphs.
    """

    frames: int
    mean_iou: float
    worst_iou: float
    worst_frame: int
    state_error: dict[str, float]
    engine: str


def compare(
    network: StepNetwork,
    engine: Engine,
    clip: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> Parity:
    """Runs a clip through PyTorch and through an engine.

    Args:
        network: the reference, in evaluation mode, on the CPU.
        engine: with the graphs exported from it.
        clip: frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W]; the first frame's are followed.

    Raises:
        ValueError: the clip is shorter than 50 frames.
    """
    contract = network.contract
    frames = iter(clip)
    frame, ids = next(frames)
    fit = Fit.of(frame.shape[:2], (contract.height, contract.width))
    masks = np.stack(
        [fit.shrink((ids == i).astype(np.uint8) * np.uint8(255)) for i in np.unique(ids[ids > 0])]
    )
    small = fit.shrink(frame)
    ious: list[NDArray[np.float64]] = []
    errors = np.zeros(len(contract.states))
    with torch.inference_mode():
        states = network.init(torch.from_numpy(small), torch.from_numpy(masks))
        cell = engine.cell(engine.init(small, masks))
        for frame, _ in frames:
            small = fit.shrink(frame)
            expected, *states = network.step(torch.from_numpy(small), *states)  # type: ignore[assignment]
            ious.append(_iou(expected.numpy(), cell.step(small)))
            for index, (a, b) in enumerate(zip(states, cell.states(), strict=True)):
                reference = a.numpy()
                scale = float(np.sqrt(np.mean(np.square(reference)))) or 1.0
                errors[index] = max(errors[index], float(np.abs(reference - b).max()) / scale)
    if len(ious) < LEAST_FRAMES:
        raise ValueError(f"parity wants at least {LEAST_FRAMES} frames, the clip has {len(ious)}")
    table = np.stack(ious)
    return Parity(
        frames=len(table),
        mean_iou=float(table.mean()),
        worst_iou=float(table.min()),
        worst_frame=1 + int(table.min(1).argmin()),
        state_error={s.name: float(e) for s, e in zip(contract.states, errors, strict=True)},
        engine=engine.name,
    )


def _iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """IoU of each object's thresholded mask; two empty masks agree."""
    p, q = a > 127, b > 127
    union = (p | q).sum((1, 2))
    ratio = (p & q).sum((1, 2)) / np.maximum(union, 1)
    return np.where(union > 0, ratio, 1.0)
