"""The moving average of a network's weights, which is what is kept of a training."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from s2svos.network.lite import Lite
from s2svos.network.paper import Paper


class Average:
    """Exponential moving average, over fewer steps while the training is young.

    Args:
        network: whose weights it begins with.
        decay: share of the average that a step leaves as it is.

    Attributes:
        network: holds the average, in evaluation mode.
    """

    def __init__(self, network: Lite | Paper, decay: float) -> None:
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Lite | Paper, step: int) -> None:
        """Moves the average towards the network's weights after optimiser step ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new, old = network.state_dict().values(), self.network.state_dict().values()
        pairs = list(zip(old, new, strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        # One kernel for all tensors: a loop over them costs a GPU more than the step's network.
        torch._foreach_lerp_([o for o, _ in floats], [n for _, n in floats], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    def weights(self, network: Lite | Paper) -> dict[str, Tensor]:
        """The average; tensors that equal the network's, as frozen ones do, are the network's.

        A checkpoint that holds both then holds those once.
        """
        current = network.state_dict()
        return {
            key: current[key] if torch.equal(value, current[key]) else value
            for key, value in self.network.state_dict().items()
        }
