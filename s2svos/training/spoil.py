"""Errors made on purpose, so that a network learns to recover from its own.

A clip is a few frames long and a network that has just seen the truth makes few errors in it; in a
video they add up. Now and then the memory of the previous frame is therefore spoilt as errors do:
the object is lost, half of it is, or something else is taken for it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s2svos.network.lite import Features, Lite, State

LOST, HALVED = 0.3, 0.4  # shares of the errors; the others go astray
FORGOTTEN = 0.5  # of the lost objects, hidden state and cell too
FARTHEST = 0.4  # shift of an object that goes astray, shares of the frame


def spoil(network: Lite, features: Features, state: State, chance: float) -> State:
    """Spoils the previous frame's memory of some of the clips.

    Args:
        network: whose state it is.
        features: of the frame after which ``state`` is.
        state: of B clips with one object each.
        chance: of a clip to be spoilt.
    """
    masks, kept = list(torch.split(state.last_mask, 1)), torch.ones(len(state.last_mask))
    hit = torch.rand(len(masks)) < chance
    if not hit.any():
        return state
    for index in hit.nonzero()[:, 0].tolist():
        kind = torch.rand(()).item()
        if kind < LOST:
            masks[index] = torch.zeros_like(masks[index])
            kept[index] = float(torch.rand(()) >= FORGOTTEN)
        elif kind < LOST + HALVED:
            masks[index] = _halved(masks[index])
        else:
            masks[index] = _astray(masks[index])
    mask, kept = torch.cat(masks), kept.to(state.hidden.device)[:, None, None, None]
    return State(
        hidden=state.hidden * kept,
        cell=state.cell * kept,
        first_keys=state.first_keys,
        last_keys=network.matcher.memory(features.last_keys, mask, first=False),
        last_mask=mask,
    )


def _halved(mask: Tensor) -> Tensor:
    """What lies on one side of a line near the object's middle, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    y = torch.linspace(0, 1, height, device=mask.device)[:, None]
    x = torch.linspace(0, 1, width, device=mask.device)
    weight = mask[0, 0].detach() + 1e-6  # the middle of the frame where there is no object
    weight = weight / weight.sum()
    angle, offset = 2 * math.pi * torch.rand(()).item(), 0.1 * (torch.rand(()).item() - 0.5)
    beyond_y, beyond_x = y - (weight * y).sum(), x - (weight * x).sum()
    return mask * (beyond_y * math.sin(angle) + beyond_x * math.cos(angle) + offset > 0)


def _astray(mask: Tensor) -> Tensor:
    """The object elsewhere, or there too, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    reach = FARTHEST * (2 * torch.rand(2) - 1)
    shift = int(reach[0] * height), int(reach[1] * width)
    moved = torch.roll(mask.detach(), shift, (2, 3))
    return torch.maximum(mask, moved) if torch.rand(()) < 0.6 else moved
