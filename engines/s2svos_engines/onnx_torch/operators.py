"""ONNX operators in PyTorch: those of our graphs, in every precision, and their near kin.

Each takes its inputs by position and its attributes by their ONNX names, and is differentiable
where ONNX's is. Shapes, axes and counts are integer tensors on the CPU.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

import onnx
import torch
from torch import Tensor

from s2svos_engines.onnx_torch.spatial import (
    Unsupported,
    average_pool,
    convolution,
    depth_to_space,
    max_pool,
    resize,
)

Operator = Callable[..., Tensor | tuple[Tensor, ...]]
Axes = Tensor | Sequence[int] | None  # an input of newer operators, an attribute of older ones
QUANTISED = (torch.int8, torch.uint8)


def cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """Convert to another element type; floats are cut towards zero."""
    return x.to(getattr(torch, onnx.helper.tensor_dtype_to_np_dtype(to).name))


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clamp between two limits, each of which may lack."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Concatenate along an axis."""
    return torch.cat(inputs, axis)


def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast both ways, unlike torch's."""
    sizes = torch.broadcast_shapes(x.shape, shape.tolist())  # type: ignore[no-untyped-call]
    return x.expand(sizes)


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Take slices at ``indices``, whose shape takes the place of the axis."""
    axis %= x.ndim
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    flat = indices.flatten()
    if flat.device != x.device:  # constants, which are not copied: a CUDA graph forbids that
        parts = [x.narrow(axis, index % x.shape[axis], 1) for index in flat.tolist()]
        return torch.cat(parts, axis).reshape(shape)
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    return x.index_select(axis, flat).reshape(shape)


def reduction(
    function: Callable[[Tensor, list[int], bool], Tensor],
    x: Tensor,
    axes: Axes = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Reduce over some axes, or over all."""
    chosen = axes.tolist() if isinstance(axes, Tensor) else list(axes or ())
    if not chosen and noop_with_empty_axes:
        return x
    return function(x, chosen or list(range(x.ndim)), bool(keepdims))


def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """Reshape; a size of 0 keeps the input's."""
    sizes = shape.tolist()
    if not allowzero:
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes, int64 on the CPU."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def slice_of(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Take a range of some axes, also backwards."""
    first, last = starts.tolist(), ends.tolist()
    chosen = range(len(first)) if axes is None else axes.tolist()
    strides = [1] * len(first) if steps is None else steps.tolist()
    for begin, end, axis, step in zip(first, last, chosen, strides, strict=True):
        places = range(x.shape[axis])[begin:end:step]
        if step == 1:
            x = x.narrow(axis, places.start, len(places))
        else:
            indices = torch.arange(places.start, places.stop, step, device=x.device)
            x = x.index_select(axis, indices)
    return x


def split(
    x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Tensor, ...]:
    """Split into parts of given sizes, or so many parts of one size."""
    part = sizes.tolist() if sizes is not None else -(-x.shape[axis] // num_outputs)
    return torch.split(x, part, axis)


def squeeze(x: Tensor, axes: Axes = None) -> Tensor:
    """Remove the named axes of size 1."""
    return x.squeeze() if axes is None else x.squeeze(tuple(int(axis) for axis in axes))


def unsqueeze(x: Tensor, axes: Axes) -> Tensor:
    """Insert axes of size 1 at the named places of the result."""
    assert axes is not None
    count = x.ndim + len(axes)
    for axis in sorted(int(axis) % count for axis in axes):
        x = x.unsqueeze(axis)
    return x


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; integers are cut towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """Round to multiples of ``scale``, the even one of two, within the type's range."""
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in QUANTISED or block_size or output_dtype or precision:
        raise Unsupported
    steps = torch.round(x / _along(scale, axis, x))
    if zero is not None:
        steps = steps + _along(zero, axis, x)
    limits = torch.iinfo(kind)
    return steps.clamp(limits.min, limits.max).to(kind)


def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """Return the numbers that whole numbers stand for, in the type of ``scale``."""
    if x.dtype not in (*QUANTISED, torch.int32) or block_size or output_dtype:
        raise Unsupported
    steps = x.to(scale.device, torch.int32)
    if zero is not None:
        steps = steps - _along(zero.to(scale.device, torch.int32), axis, x)
    return steps.to(scale.dtype) * _along(scale, axis, x)


def _along(value: Tensor, axis: int, x: Tensor) -> Tensor:
    """Shape one number, or one for each place on an axis of ``x``, so that it broadcasts."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if one == axis % x.ndim else 1 for one in range(x.ndim)])


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda *inputs: reduce(function, inputs)


OPERATORS: dict[str, Operator] = {
    "Abs": torch.abs,
    "Add": operator.add,
    "AveragePool": average_pool,
    "Cast": cast,
    "Clip": clip,
    "Concat": concat,
    "Conv": partial(convolution, transposed=False),
    "ConvTranspose": partial(convolution, transposed=True),
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": dequantize_linear,
    "Div": divide,
    "Equal": torch.eq,
    "Exp": torch.exp,
    "Expand": expand,
    "Gather": gather,
    "GreaterOrEqual": operator.ge,
    "Identity": lambda x: x,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": _extreme(torch.maximum),
    "MaxPool": max_pool,
    "Min": _extreme(torch.minimum),
    "Mul": operator.mul,
    "Neg": torch.neg,
    "Pow": operator.pow,
    "QuantizeLinear": quantize_linear,
    "Reciprocal": torch.reciprocal,
    "ReduceL2": partial(
        reduction, lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)
    ),
    "ReduceMax": partial(reduction, torch.amax),
    "ReduceMean": partial(reduction, torch.mean),
    "ReduceSum": partial(reduction, torch.sum),
    "Relu": torch.relu,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": shape_of,
    "Sigmoid": torch.sigmoid,
    "Slice": slice_of,
    "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "Split": split,
    "Sqrt": torch.sqrt,
    "Squeeze": squeeze,
    "Sub": operator.sub,
    "Sum": _extreme(operator.add),
    "Tanh": torch.tanh,
    "Transpose": lambda x, *, perm=None: x.permute(perm or tuple(range(x.ndim))[::-1]),
    "Unsqueeze": unsqueeze,
    "Where": torch.where,
}
