"""Schedule of the learning rates, and the moving average of the weights."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from s2svos.network.segmenter import AnySegmenter
from s2svos.training.config import OptimiserConfig, ScheduleConfig

FIRST = 0.04
"""Share of the highest rate at which a warm-up begins, as in one-cycle's own proposal (1/25)."""


def rate_at(done: float, schedule: ScheduleConfig) -> float:
    """Return the share of the highest learning rate when ``done`` of the steps, 0 to 1, are over.

    After the warm-up, ``constant`` stays, ``cosine`` and ``one-cycle`` (arXiv 1708.07120, whose
    momentum stays as it is here) fall along half a cosine. The warm-up is a straight line, that of
    ``one-cycle`` half a cosine.
    """
    if done < schedule.warm_up:
        risen = done / schedule.warm_up
        if schedule.kind == "one-cycle":
            risen = _falling(1 - risen)
        return FIRST + (1 - FIRST) * risen
    if schedule.kind == "constant":
        return 1.0
    fallen = (done - schedule.warm_up) / (1 - schedule.warm_up)
    return schedule.floor + (1 - schedule.floor) * _falling(fallen)


def _falling(x: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * x))


def parameter_groups(network: AnySegmenter, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Return the trained parameters in groups with their highest rates, the backbone's first."""
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (backbone if "backbone" in name else rest).append(parameter)
    groups = [(backbone, config.backbone_lr), (rest, config.lr)]
    return [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters]


class EMA:
    """Exponential moving average, over fewer steps while the training is young.

    Args:
        network: whose weights it begins with.
        decay: share of the average that a step leaves as it is.

    Attributes:
        network: holds the average, in evaluation mode.
    """

    def __init__(self, network: AnySegmenter, decay: float) -> None:
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: AnySegmenter, step: int) -> None:
        """Move the average towards the network's weights after optimiser step ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new, old = network.state_dict().values(), self.network.state_dict().values()
        pairs = list(zip(old, new, strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        # One kernel for all tensors: a loop over them costs a GPU more than the step's network.
        torch._foreach_lerp_([o for o, _ in floats], [n for _, n in floats], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    def weights(self, network: AnySegmenter) -> dict[str, Tensor]:
        """Return the average; tensors that equal the network's, as frozen ones do, are shared.

        A checkpoint that holds both then holds those once.
        """
        current = network.state_dict()
        return {
            key: current[key] if torch.equal(value, current[key]) else value
            for key, value in self.network.state_dict().items()
        }
