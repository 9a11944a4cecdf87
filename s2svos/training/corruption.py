"""Corruption of the state, so that a network learns to recover from its own errors.

A clip is a few frames long and a network that has just seen the truth makes few errors in it; in a
video they add up. Now and then the memory of the previous frame is therefore corrupted as errors
corrupt it: the object is dropped, cut in half, drifts to something else, gets a hole, grows or
shrinks, or changes places with another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from s2svos.network.lite import PERIOD, State

KINDS = ("drop", "cut", "drift", "hole", "swell")  # of errors
SHARES = (0.25, 0.25, 0.2, 0.15, 0.15)  # of each among them
SWAP = 0.3  # share of the errors of an object beside others, which it changes places with one of
FORGOTTEN = 0.5  # of the dropped objects, hidden state and cell too
FARTHEST = 0.4  # shift of an object that drifts, shares of the frame
HOLE = (0.1, 0.35)  # size of a hole, shares of the frame's height


def refresh_early(state: State, length: int, rngs: Sequence[np.random.Generator]) -> State:
    """Let the slow slot take one frame within a clip, which is shorter than its period.

    Args:
        state: of B clips, at their start.
        length: frames of a clip.
        rngs: of the B clips.
    """
    ages = [[PERIOD - rng.integers(1, max(2, length - 1))] for rng in rngs]
    return state._replace(slow_clock=torch.tensor(ages).to(state.slow_clock))


def corrupt_state(
    state: State, chance: float, owners: Tensor, rngs: Sequence[np.random.Generator]
) -> State:
    """Corrupt the previous frame's memory of some of the objects.

    Args:
        state: of N objects of B clips.
        chance: of an object to be corrupted.
        owners: int64 [N], the clip of each object.
        rngs: of the B clips.
    """
    masks, kept = list(torch.split(state.last_mask, 1)), torch.ones(len(state.last_mask))
    clips = owners.tolist()
    hit = [index for index, clip in enumerate(clips) if rngs[clip].random() < chance]
    if not hit:
        return state
    for index in hit:
        rng = rngs[clips[index]]
        beside = [i for i, clip in enumerate(clips) if clip == clips[index] and i != index]
        kind = rng.choice(KINDS, p=SHARES)
        if beside and rng.random() < SWAP:
            other = beside[rng.integers(len(beside))]
            masks[index], masks[other] = masks[other], masks[index]
        elif kind == "drop":
            masks[index] = torch.zeros_like(masks[index])
            kept[index] = float(rng.random() >= FORGOTTEN)
        else:
            masks[index] = ERRORS[kind](masks[index], rng)
    mask, kept = torch.cat(masks), kept.to(state.hidden.device)[:, None, None, None]
    return state._replace(hidden=state.hidden * kept, cell=state.cell * kept, last_mask=mask)


def _cut(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Keep what lies on one side of a line near the object's middle, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    y = torch.linspace(0, 1, height, device=mask.device)[:, None]
    x = torch.linspace(0, 1, width, device=mask.device)
    weight = mask[0, 0].detach() + 1e-6  # the middle of the frame where there is no object
    weight = weight / weight.sum()
    angle, offset = 2 * math.pi * rng.random(), 0.1 * (rng.random() - 0.5)
    beyond_y, beyond_x = y - (weight * y).sum(), x - (weight * x).sum()
    return mask * (beyond_y * math.sin(angle) + beyond_x * math.cos(angle) + offset > 0)


def _drift(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Move the object elsewhere, or copy it there, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    reach = FARTHEST * (2 * rng.random(2) - 1)
    shift = int(reach[0] * height), int(reach[1] * width)
    moved = torch.roll(mask.detach(), shift, (2, 3))
    return torch.maximum(mask, moved) if rng.random() < 0.6 else moved


def _hole(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Cut an ellipse out of the object, around one of its places, float [1, 1, H, W]."""
    height, width = mask.shape[2:]
    places = torch.nonzero(mask[0, 0].detach() > 0.5)
    if not len(places):
        return mask
    middle_y, middle_x = places[rng.integers(len(places))].tolist()
    radius_y, radius_x = rng.uniform(*HOLE, 2) / 2 * height
    y = (torch.arange(height, device=mask.device)[:, None] - middle_y) / radius_y
    x = (torch.arange(width, device=mask.device) - middle_x) / radius_x
    beyond: Tensor = y.square() + x.square() > 1
    return mask * beyond


def _swell(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Grow or shrink the object by one or two places, float [1, 1, H, W]."""
    reach = int(rng.integers(1, 3))
    sign = 1 if rng.random() < 0.5 else -1
    swollen: Tensor = F.max_pool2d(sign * mask, 2 * reach + 1, stride=1, padding=reach)
    return sign * swollen


ERRORS = {"cut": _cut, "drift": _drift, "hole": _hole, "swell": _swell}
