"""MobileNet V1 (arXiv 1704.04861) up to stride 16, as TensorFlow computes it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# Output channels and stride of the depthwise separable blocks, table 1 of the paper.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
FROZEN_BLOCKS = 5
"""Blocks whose ImageNet weights stay as they are in training (strides 2 to 8)."""


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, each with BatchNorm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # Stride 1 pads evenly, so the convolution does it; stride 2 pads right and below alone.
        self.dw = nn.Conv2d(
            inputs, inputs, 3, stride, 1 if stride == 1 else 0, groups=inputs, bias=False
        )
        self.dw_bn = nn.BatchNorm2d(inputs, eps=1e-3)
        self.pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        if self.stride == 2:
            x = F.pad(x, (0, 1, 0, 1))
        x = F.relu6(self.dw_bn(self.dw(x)))
        return F.relu6(self.pw_bn(self.pw(x)))


class MobileNet(nn.Module):
    """The convolutional part of MobileNet V1 that ends at stride 16."""

    channels = (64, 128, 256, 512)
    """Channels of the maps at stride 2, 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps=1e-3)
        widths = [32, *(width for width, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            Separable(inputs, outputs, stride)
            for inputs, (outputs, stride) in zip(widths, BLOCKS, strict=False)
        )

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Feature maps of a frame.

        Args:
            frame: float [B, 3, H, W], RGB from -1 to 1.

        Returns:
            Maps at stride 2, 4, 8 and 16: float [B, C, H / stride, W / stride].
        """
        x = F.relu6(self.bn1(self.conv1(F.pad(frame, (0, 1, 0, 1)))))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            last_of_stride = index + 1 == len(BLOCKS) or BLOCKS[index + 1][1] == 2
            if last_of_stride:
                maps.append(x)
        s2, s4, s8, s16 = maps
        return s2, s4, s8, s16

    def freeze_early(self) -> None:
        """Keeps the first blocks' weights and every BatchNorm as ImageNet left them.

        A clip is five frames of one scene, too alike for batch statistics, and the early blocks
        hold textures that a few dozen videos cannot improve.
        """
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        for module in (self.conv1, *self.blocks[:FROZEN_BLOCKS]):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNet:
        """Sets training mode; BatchNorm layers that are frozen keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def load_features(self, weights: dict[str, Tensor]) -> None:
        """Takes ImageNet weights; blocks beyond stride 16 in ``weights`` are left out.

        Args:
            weights: a state dict with keys ``conv1.*``, ``bn1.*``, ``blocks.N.*``.

        Raises:
            KeyError: a tensor is missing.
        """
        own = self.state_dict()
        own.update({key: weights[key] for key in own if not key.endswith("num_batches_tracked")})
        self.load_state_dict(own)
