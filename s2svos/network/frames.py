"""Between the bytes that a graph takes and gives, and the numbers that a network computes with."""

from __future__ import annotations

import torch
from torch import Tensor


def planes(frame: Tensor) -> Tensor:
    """uint8 [H, W, 3] to float [1, 3, H, W]; the cast comes first, as TensorRT wants it."""
    return frame.float().permute(2, 0, 1)[None]


def probabilities_to_bytes(logits: Tensor) -> Tensor:
    """Logits, float [N, 1, H, W], to probabilities times 255, uint8 [N, H, W]."""
    return (torch.sigmoid(logits)[:, 0] * 255 + 0.5).to(torch.uint8)
