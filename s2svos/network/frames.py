"""Between the bytes that a graph takes and gives, and the numbers that a network computes with."""

from __future__ import annotations

import torch
from torch import Tensor


def planes(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [H, W, 3] or [T, H, W, 3] to float [1 or T, 3, H, W].

    The cast comes first, as TensorRT wants it.
    """
    cast = frames.to(dtype)
    return (cast if cast.ndim == 4 else cast[None]).permute(0, 3, 1, 2)


def probabilities_to_bytes(logits: Tensor) -> Tensor:
    """Logits, float [..., 1, H, W], to probabilities times 255, uint8 [..., H, W]."""
    return (torch.sigmoid(logits).squeeze(-3) * 255 + 0.5).to(torch.uint8)
