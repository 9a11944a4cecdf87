"""Pruning of the backbone's channels, in closed form.

The channels in the middle of an inverted residual are what a linear layer (the projection) sums.
One goes after the other, each time the one whose loss the weights of the others can best make up
for (optimal brain surgeon, arXiv 1705.07565, with whole columns of weights); the projections that
are left are then fitted to what the whole network gives (as arXiv 1707.06168 does). How many go in
which block is what least changes the blocks' maps for the time that is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos.network.efficientnet import EfficientNet, InvertedResidual
from s2svos.network.lite import Lite

GRANULE = 16  # channels; kernels compute 16 floats of AVX-512 at a time, or 8 of AVX2
# What a depthwise product costs by one of a 1x1 convolution: it reaches a quarter of the peak on
# AVX2 (s2svos info --profile).
DEPTHWISE = 4
DAMPING = 1e-4  # of a mean variance, added to each
AT_ONCE = 8  # frames


class _Moments:
    """Second moments of a linear layer's inputs and outputs over all places of frames."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._products = torch.zeros(())

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add the places of maps, float [B, inputs, h, w] and [B, outputs, h, w]."""
        x = torch.cat([inputs, outputs], 1).transpose(0, 1).flatten(1).double()
        self._sum = self._sum + x.sum(1)
        self._products = self._products + x @ x.T
        self._count += x.shape[1]

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Return the means, and the covariance with :data:`DAMPING`, of inputs and outputs."""
        mean = self._sum / self._count
        covariance = self._products / self._count - torch.outer(mean, mean)
        damping = DAMPING * covariance.diagonal().mean()
        return mean, covariance + damping * torch.eye(len(mean), dtype=torch.float64)


@dataclass(frozen=True)
class BlockOrder:
    """In which order the channels in the middle of a block go.

    Args:
        channels: C - 1 numbers, all but that of the last one.
        losses: float64 [C], what is lost of the block's map as a share of its variance, when that
            many have gone.
        cost: multiplications for a channel and frame, those of the depthwise convolution times
            :data:`DEPTHWISE`.
    """

    channels: list[int]
    losses: NDArray[np.float64]
    cost: float

    def kept(self, width: int) -> Tensor:
        """Return the ``width`` channels that stay, int64, by their numbers."""
        gone = set(self.channels[: len(self.losses) - width])
        return torch.tensor([i for i in range(len(self.losses)) if i not in gone])


@torch.no_grad()
def prune(network: Lite, frames: Tensor, share: float) -> Lite:
    """Return a network whose backbone has fewer channels, in evaluation mode.

    Args:
        network: is left as it is.
        frames: uint8 [B, 3, H, W], like those that it will see; a hundred are enough.
        share: of the backbone's cost (:class:`BlockOrder`) that is to stay, 0 to 1.
    """
    whole = network.encoder.backbone.eval()
    parts = [part.float() / 127.5 - 1 for part in torch.split(frames, AT_ONCE)]
    stems = [whole.stem(part) for part in parts]
    orders = _orders(whole, stems)
    widths = choose_widths(orders, share)
    kept = [order.kept(width) for order, width in zip(orders, widths, strict=True)]
    pruned = _without_channels(network, kept)
    _fit_projections(pruned.encoder.backbone, whole, parts, stems)
    return pruned


def choose_widths(orders: Sequence[BlockOrder], share: float) -> list[int]:
    """Return how many channels of each block stay, multiples of :data:`GRANULE` where some go.

    The sum of the losses is the least for the cost: each block is pruned until a product saved
    would lose more than the same price, which is found by halving.
    """
    whole = sum(order.cost * len(order.losses) for order in orders)

    def at(price: float) -> list[int]:
        widths = []
        for order in orders:
            count = len(order.losses)
            choices = range(count, 0, -GRANULE)
            losses = [float(order.losses[count - w]) + price * order.cost * w for w in choices]
            widths.append(choices[int(np.argmin(losses))])
        return widths

    low, high = 0.0, 1.0 / min(order.cost for order in orders)
    for _ in range(60):
        price = (low + high) / 2
        cost = sum(o.cost * w for o, w in zip(orders, at(price), strict=True))
        low, high = (price, high) if cost > share * whole else (low, price)
    return at(high)


def removal_order(covariance: Tensor, weights: Tensor) -> tuple[list[int], list[float]]:
    """Order the inputs of a linear layer by what it loses without them, the least first.

    Args:
        covariance: float64 [C, C] of the inputs, positive definite.
        weights: float64 [outputs, C], the best for all of them.

    Returns:
        C - 1 inputs; and C squared errors, summed over the outputs, when that many have gone and
        the weights of the others are the best for what is left.
    """
    inverse, weights = torch.linalg.inv(covariance), weights.clone()
    # The inverse of what is left is this one less factors.T @ factors, whose rows are made one by
    # one (a Cholesky decomposition with pivots): with 1,152 inputs a third of the time.
    factors, diagonal = torch.zeros_like(inverse), inverse.diagonal().clone()
    gone = torch.zeros(len(inverse), dtype=torch.bool)
    order, losses = [], [0.0]
    for step in range(len(inverse) - 1):
        loss = weights.square().sum(0) / diagonal
        loss[gone] = torch.inf
        i = int(loss.argmin())
        order.append(i)
        losses.append(losses[-1] + float(loss[i]))
        row = (inverse[i] - factors[:step, i] @ factors[:step]) / diagonal[i].sqrt()
        weights -= torch.outer(weights[:, i] / row[i], row)
        diagonal -= row.square()
        factors[step], gone[i] = row, True
    return order, losses


def _orders(backbone: EfficientNet, stems: Sequence[Tensor]) -> list[BlockOrder]:
    maps, orders = list(stems), []
    for block in backbone.blocks:
        assert isinstance(block, InvertedResidual)
        moments, outputs = _Moments(), []
        for x in maps:
            middle = block.widened(x)
            outputs.append(block(x))
            moments.add(middle, outputs[-1])
        _, covariance = moments.covariance()
        count = block.dw.in_channels
        projection = block.pw.weight[:, :, 0, 0] * _scale(block)[:, None]
        channels, losses = removal_order(covariance[:count, :count], projection.double())
        variance = float(covariance.diagonal()[count:].sum())
        cost = _cost(block, maps[0], outputs[0])
        orders.append(BlockOrder(channels, np.array(losses) / variance, cost))
        maps = outputs
    return orders


def _cost(block: InvertedResidual, x: Tensor, y: Tensor) -> float:
    """Return :attr:`BlockOrder.cost`, of the map that the block takes and the one it gives."""
    before, after = x[0, 0].numel(), y[0, 0].numel()
    expansion = before * x.shape[1]
    if block.expand is None:  # what it has the convolution before it make, of 3 channels
        expansion = before * 3 * 9
    return expansion + after * (DEPTHWISE * block.kernel**2 + y.shape[1])


def _scale(block: InvertedResidual) -> Tensor:
    """Return what the projection's BatchNorm multiplies by, float [outputs]."""
    norm = block.bn2
    assert norm.running_var is not None
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def _without_channels(network: Lite, kept: Sequence[Tensor]) -> Lite:
    """Return a network that has some channels in the middle of its blocks alone."""
    weights, backbone = network.state_dict(), "encoder.backbone."
    for index, keep in enumerate(kept):
        block = f"{backbone}blocks.{index}."
        layers = {block + name for name in ("expand", "bn0", "dw", "bn1")}
        if index == 0:  # which has no expansion
            layers |= {backbone + "conv", backbone + "bn"}
        for key, value in weights.items():
            if key.rpartition(".")[0] in layers and value.dim():  # no counter of BatchNorm's
                weights[key] = value[keep]
        weights[block + "pw.weight"] = weights[block + "pw.weight"][:, keep]
    pruned = Lite(replace(network.config, widths=tuple(map(len, kept))))
    pruned.load_state_dict(weights)
    return pruned.eval()


def _fit_projections(
    pruned: EfficientNet, whole: EfficientNet, parts: Sequence[Tensor], stems: Sequence[Tensor]
) -> None:
    """Fit the projections, block by block, so that the maps are those of the whole network.

    Each block also makes up for what those before it have lost.
    """
    maps, targets = [pruned.stem(part) for part in parts], list(stems)
    for block, model in zip(pruned.blocks, whole.blocks, strict=True):
        assert isinstance(block, InvertedResidual)
        targets, moments = [model(x) for x in targets], _Moments()
        for x, target in zip(maps, targets, strict=True):
            moments.add(block.widened(x), target - x if block.residual else target)
        mean, covariance = moments.covariance()
        count, scale = block.dw.in_channels, _scale(block).double()
        fitted = torch.linalg.solve(covariance[:count, :count], covariance[:count, count:]).T
        bias = mean[count:] - fitted @ mean[:count]
        block.pw.weight.copy_((fitted / scale[:, None])[:, :, None, None])
        assert block.bn2.running_mean is not None
        block.bn2.bias.copy_(bias + block.bn2.running_mean * scale)
        maps = [block(x) for x in maps]
