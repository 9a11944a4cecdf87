"""The loss of a training, and J of its clips."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from s2svos.training.config import LossConfig

BORDER = 3  # pixels; contour accuracy F forgives 0.8 % of the diagonal, 4 pixels at 256x448


def training_loss(
    logits: Tensor, target: Tensor, config: LossConfig, done: float, owners: Tensor | None = None
) -> Tensor:
    """Return the cross entropy of the hardest pixels and soft Dice.

    Args:
        logits: float [T, N, 1, H, W].
        target: float [T, N, 1, H, W], 0 to 1.
        config: the weights of both.
        done: share of the training that is over, 0 to 1.
        owners: int64 [N], see :func:`mean_over_clips`.
    """
    hardened = min(1.0, done / config.bootstrap_steps) if config.bootstrap_steps else 1.0
    share = 1 - (1 - config.bootstrap_ratio) * hardened
    loss = hard_cross_entropy(logits, target, share, border=config.border)
    if config.dice:
        loss = loss + config.dice * soft_dice(logits, target)
    return mean_over_clips(loss, owners)


def mean_over_clips(values: Tensor, owners: Tensor | None = None) -> Tensor:
    """Return the mean over clips of the means over their objects.

    Every clip counts the same, so that parts of a batch are worth their number of clips.

    Args:
        values: float [N], one an object.
        owners: int64 [N], the clip of each object, from 0, in order; None: one each.
    """
    if owners is None:
        return values.mean()
    counts = torch.bincount(owners)
    return (values / counts[owners]).sum() / len(counts)


def hard_cross_entropy(
    logits: Tensor, target: Tensor, share: float, *, border: float = 0
) -> Tensor:
    """Return the binary cross entropy over each object's hardest pixels, float [N].

    Bootstrapped, as in STM and Cutie.

    Args:
        logits: float [T, N, 1, H, W].
        target: float [T, N, 1, H, W], 0 to 1.
        share: of an object's pixels that count, 0 to 1; at least one pixel does.
        border: what a pixel within :data:`BORDER` of the object's border counts more.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if border:
        loss = loss * (1 + border * near_border(target))
    loss = loss.transpose(0, 1).flatten(1)
    if share < 1:
        loss = loss.topk(max(1, int(share * loss.shape[1])), dim=1, sorted=False).values
    return loss.mean(1)


def near_border(target: Tensor) -> Tensor:
    """Return 1 within :data:`BORDER` pixels of a border of the masks, else 0; [T, N, 1, H, W]."""
    flat = target.flatten(0, 1)
    return (_most_nearby(flat) + _most_nearby(-flat)).view_as(target)


def _most_nearby(x: Tensor) -> Tensor:
    size = 2 * BORDER + 1
    rows = F.max_pool2d(x, (size, 1), stride=1, padding=(BORDER, 0))
    return F.max_pool2d(rows, (1, size), stride=1, padding=(0, BORDER))


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - Dice of the probabilities of [T, N, 1, H, W], the mean over frames; float [N]."""
    p, t = torch.sigmoid(logits).flatten(2), target.flatten(2)
    # One pixel is added to both sides, so that an object that is away costs little.
    return (1 - (2 * (p * t).sum(2) + 1) / (p.sum(2) + t.sum(2) + 1)).mean(0)


def jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Return J of thresholded masks, [T, N, 1, H, W], the mean over frames; float [N].

    Empty on empty is 1.
    """
    p, t = (logits > 0).flatten(2), (target > 0.5).flatten(2)
    union = (p | t).sum(2).float()
    ratio = (p & t).sum(2) / union.clamp(min=1)
    return torch.where(union > 0, ratio, torch.ones_like(ratio)).mean(0)
