"""ONNX operators on maps, in PyTorch: convolution, pooling and resizing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class Unsupported(Exception):
    """An operator that is known, in a use that is not."""


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    transposed: bool,
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Sequence[int] = (),
) -> Tensor:
    """Run Conv or ConvTranspose in any number of dimensions."""
    count, kind = x.ndim - 2, x.dtype
    if kind == torch.float16 and x.device.type == "cpu":
        # Sums are floats either way, but PyTorch (2.15) takes 14 times as long for those of halves.
        x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
    x, padding = _pad_evenly(x, pads, auto_pad, None if transposed else 0.0)
    return torch.convolution(
        x,
        weight,
        bias,
        list(strides) or [1] * count,
        padding,
        list(dilations) or [1] * count,
        transposed,
        list(output_padding) or [0] * count,
        group,
    ).to(kind)


def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    auto_pad: str = "NOTSET",
) -> Tensor:
    """Return the mean of windows of a map [N, C, H, W]."""
    if len(kernel_shape) != 2 or any(d != 1 for d in dilations):
        raise Unsupported
    x, padding = _pad_evenly(x, pads, auto_pad, 0.0 if count_include_pad else None)
    stride = list(strides) or [1, 1]
    return F.avg_pool2d(
        x, list(kernel_shape), stride, padding, bool(ceil_mode), bool(count_include_pad)
    )


def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (1, 1),
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
    storage_order: int = 0,
) -> Tensor:
    """Return the maximum of windows of a map [N, C, H, W]."""
    if len(kernel_shape) != 2:
        raise Unsupported
    x, padding = _pad_evenly(x, pads, auto_pad, float("-inf"))
    stride = list(strides) or [1, 1]
    return F.max_pool2d(x, list(kernel_shape), stride, padding, list(dilations), bool(ceil_mode))


def _pad_evenly(
    x: Tensor, pads: Sequence[int], auto_pad: str, value: float | None
) -> tuple[Tensor, list[int]]:
    """Return what remains of ``pads`` for both sides, once ``x`` is padded where they differ."""
    if auto_pad not in ("NOTSET", "VALID"):
        raise Unsupported
    count = x.ndim - 2
    before, after = (list(pads[:count]), list(pads[count:])) if pads else ([0] * count,) * 2
    if before == after:
        return x, before
    if value is None:
        raise Unsupported
    sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return F.pad(x, sides, value=value), [0] * count


RESIZES = {  # by mode, coordinates and rounding: torch's mode and align_corners
    ("linear", "half_pixel", None): ("bilinear", False),
    ("linear", "pytorch_half_pixel", None): ("bilinear", False),
    ("linear", "align_corners", None): ("bilinear", True),
    ("nearest", "asymmetric", "floor"): ("nearest", None),
}


def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    antialias: int = 0,
    **others: object,
) -> Tensor:
    """Resize height and width of a map [N, C, H, W]."""
    rounding = nearest_mode if mode == "nearest" else None
    known = RESIZES.get((mode, coordinate_transformation_mode, rounding))
    if known is None or x.ndim != 4 or "axes" in others:
        raise Unsupported
    named, corners = known
    size = sizes.tolist() if sizes is not None and sizes.numel() else None
    factors = scales.tolist() if size is None and scales is not None else None
    if (size or factors or [])[:2] != (list(x.shape[:2]) if size else [1, 1]):
        raise Unsupported
    return F.interpolate(
        x,
        size and size[2:],
        factors and factors[2:],
        named,
        corners,
        antialias=bool(antialias),
    )


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move channels to sub-pixels; CRD is torch's order."""
    if mode == "DCR":
        batch, channels, height, width = x.shape
        inner = x.view(batch, blocksize**2, channels // blocksize**2, height, width)
        x = inner.transpose(1, 2).reshape(x.shape)
    return F.pixel_shuffle(x, blocksize)
