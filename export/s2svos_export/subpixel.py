"""Transposed convolutions as convolutions of sub-pixels, which run faster and quantise.

A transposed convolution of stride 2 computes four interleaved pictures, each a convolution of its
input with every other row and column of the kernel. The four are one convolution with four times
the channels and a ``PixelShuffle`` after it: the same sums, with some zeros among the weights.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class SubPixel(nn.Module):
    """A transposed convolution that doubles height and width, computed at its input's size.

    Args:
        source: the transposed convolution, of stride 2, without dilation or groups.

    Raises:
        ValueError: it does not double height and width.
    """

    def __init__(self, source: nn.ConvTranspose2d) -> None:
        super().__init__()
        (size, other), (pad, pad_x) = source.kernel_size, _pair(source.padding)
        if (
            source.stride != (2, 2)
            or source.dilation != (1, 1)
            or source.groups != 1
            or (size, pad) != (other, pad_x)
            or size - 2 * pad + source.output_padding[0] != 2
        ):
            raise ValueError(f"{source} does not double height and width")
        # Output row 2m + a is made of the input rows m + d with kernel row a + pad - 2d.
        reach = max((size - 1 - pad + 1) // 2, (pad + 1) // 2)
        weight = source.weight.detach()  # [in, out, size, size]
        inputs, outputs = weight.shape[:2]
        own = torch.zeros(outputs, 2, 2, inputs, 2 * reach + 1, 2 * reach + 1)
        places = [
            (a, d + reach, a + pad - 2 * d)
            for a in (0, 1)
            for d in range(-reach, reach + 1)
            if 0 <= a + pad - 2 * d < size
        ]
        for a, y, row in places:
            for b, x, column in places:
                own[:, a, b, :, y, x] = weight[:, :, row, column].T
        self.conv = nn.Conv2d(
            inputs, 4 * outputs, 2 * reach + 1, padding=reach, bias=source.bias is not None
        )
        self.conv.weight.data = own.flatten(0, 2)
        if source.bias is not None:
            assert self.conv.bias is not None
            self.conv.bias.data = source.bias.detach().repeat_interleave(4)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Double height and width: float [B, in, h, w] to [B, out, 2h, 2w]."""
        shuffled: Tensor = self.shuffle(self.conv(x))
        return shuffled


def _pair(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    assert not isinstance(padding, str)  # words are for convolutions that are not transposed
    return padding


def with_sub_pixels(network: Module) -> Module:
    """Return a copy of a network without transposed convolutions."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ConvTranspose2d):
                setattr(module, name, SubPixel(child))
    return network
