"""Errors made on purpose, so that a network learns to recover from its own.

A clip is a few frames long and a network that has just seen the truth makes few errors in it; in a
video they add up. Now and then the memory of the previous frame is therefore spoilt as errors do:
the object is lost, half of it is, or something else is taken for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s2svos.network.lite import State

LOST, HALVED = 0.3, 0.4  # shares of the errors; the others go astray
FORGOTTEN = 0.5  # of the lost objects, hidden state and cell too
FARTHEST = 0.4  # shift of an object that goes astray, shares of the frame
_SEED = 9  # third number of their seeds; clips have two, those of a validation 7, of the keys 8


def generators(seed: int, numbers: Sequence[int]) -> list[np.random.Generator]:
    """What the errors in clips are drawn from: each by its clip's number in the run.

    So neither the share of a batch that a process has, nor its place in it, nor the step at which a
    run was resumed changes them.
    """
    return [np.random.default_rng([seed, number, _SEED]) for number in numbers]


def spoil(state: State, chance: float, rngs: Sequence[np.random.Generator]) -> State:
    """Spoils the previous frame's memory of some of the clips.

    Args:
        state: of B clips with one object each.
        chance: of a clip to be spoilt.
        rngs: of the B clips.
    """
    masks, kept = list(torch.split(state.last_mask, 1)), torch.ones(len(state.last_mask))
    hit = [index for index, rng in enumerate(rngs) if rng.random() < chance]
    if not hit:
        return state
    for index in hit:
        rng = rngs[index]
        kind = rng.random()
        if kind < LOST:
            masks[index] = torch.zeros_like(masks[index])
            kept[index] = float(rng.random() >= FORGOTTEN)
        elif kind < LOST + HALVED:
            masks[index] = _halved(masks[index], rng)
        else:
            masks[index] = _astray(masks[index], rng)
    mask, kept = torch.cat(masks), kept.to(state.hidden.device)[:, None, None, None]
    return state._replace(hidden=state.hidden * kept, cell=state.cell * kept, last_mask=mask)


def _halved(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """What lies on one side of a line near the object's middle, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    y = torch.linspace(0, 1, height, device=mask.device)[:, None]
    x = torch.linspace(0, 1, width, device=mask.device)
    weight = mask[0, 0].detach() + 1e-6  # the middle of the frame where there is no object
    weight = weight / weight.sum()
    angle, offset = 2 * math.pi * rng.random(), 0.1 * (rng.random() - 0.5)
    beyond_y, beyond_x = y - (weight * y).sum(), x - (weight * x).sum()
    return mask * (beyond_y * math.sin(angle) + beyond_x * math.cos(angle) + offset > 0)


def _astray(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The object elsewhere, or there too, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    reach = FARTHEST * (2 * rng.random(2) - 1)
    shift = int(reach[0] * height), int(reach[1] * width)
    moved = torch.roll(mask.detach(), shift, (2, 3))
    return torch.maximum(mask, moved) if rng.random() < 0.6 else moved
