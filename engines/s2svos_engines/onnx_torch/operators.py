"""ONNX operators in PyTorch: those that torch's exporter writes for convolutional networks.

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
from torch.nn import functional as F

from s2svos_engines.onnx_torch.spatial import (
    Unsupported,
    average_pool,
    convolution,
    depth_to_space,
    max_pool,
    pad,
    resize,
)

Operator = Callable[..., Tensor | tuple[Tensor, ...]]
Axes = Tensor | Sequence[int] | None  # an input of newer operators, an attribute of older ones
QUANTISED = (torch.int8, torch.uint8)


def cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """Another element type; floats are cut towards zero."""
    return x.to(getattr(torch, onnx.helper.tensor_dtype_to_np_dtype(to).name))


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Between two limits, each of which may lack."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Along an axis."""
    return torch.cat(inputs, axis)


def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Broadcasts both ways, unlike torch's."""
    sizes = torch.broadcast_shapes(x.shape, shape.tolist())  # type: ignore[no-untyped-call]
    return x.expand(sizes)


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Slices at ``indices``, whose shape takes the place of the axis."""
    axis %= x.ndim
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    flat = indices.flatten()
    if flat.device != x.device:  # constants, which are not copied: a CUDA graph forbids that
        parts = [x.narrow(axis, index % x.shape[axis], 1) for index in flat.tolist()]
        return torch.cat(parts, axis).reshape(shape)
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    return x.index_select(axis, flat).reshape(shape)


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``alpha a b + beta c``."""
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def reduction(
    function: Callable[[Tensor, list[int], bool], Tensor],
    x: Tensor,
    axes: Axes = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """A reduction over some axes, or over all."""
    chosen = axes.tolist() if isinstance(axes, Tensor) else list(axes or ())
    if not chosen and noop_with_empty_axes:
        return x
    return function(x, chosen or list(range(x.ndim)), bool(keepdims))


def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """A size of 0 keeps the input's."""
    sizes = shape.tolist()
    if not allowzero:
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The sizes, int64 on the CPU."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def slice_of(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """A range of some axes, also backwards."""
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
    """Parts of given sizes, or so many parts of one size."""
    part = sizes.tolist() if sizes is not None else -(-x.shape[axis] // num_outputs)
    return torch.split(x, part, axis)


def squeeze(x: Tensor, axes: Axes = None) -> Tensor:
    """Without the named axes of size 1."""
    return x.squeeze() if axes is None else x.squeeze(tuple(int(axis) for axis in axes))


def top_k(
    x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, ...]:
    """Values and indices."""
    return tuple(x.topk(int(k.item()), axis, bool(largest), bool(sorted)))


def unsqueeze(x: Tensor, axes: Axes) -> Tensor:
    """With axes of size 1 at the named places of the result."""
    assert axes is not None
    count = x.ndim + len(axes)
    for axis in sorted(int(axis) % count for axis in axes):
        x = x.unsqueeze(axis)
    return x


def divide(a: Tensor, b: Tensor) -> Tensor:
    """A quotient; of integers, cut towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Mean 0 and variance 1 over the last axes, from ``axis`` on."""
    return F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


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
    """The nearest whole multiple of ``scale``, the even one of two, within the type's range."""
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
    """What whole numbers stand for, in the type of ``scale``."""
    if x.dtype not in (*QUANTISED, torch.int32) or block_size or output_dtype:
        raise Unsupported
    steps = x.to(scale.device, torch.int32)
    if zero is not None:
        steps = steps - _along(zero.to(scale.device, torch.int32), axis, x)
    return steps.to(scale.dtype) * _along(scale, axis, x)


def _along(value: Tensor, axis: int, x: Tensor) -> Tensor:
    """One number for all, or one for each place on an axis of ``x``, so that it broadcasts."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if one == axis % x.ndim else 1 for one in range(x.ndim)])


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda *inputs: reduce(function, inputs)


OPERATORS: dict[str, Operator] = {
    "Abs": torch.abs,
    "Add": operator.add,
    "And": torch.logical_and,
    "AveragePool": average_pool,
    "BatchNormalization": lambda x, scale, bias, mean, var, *, epsilon=1e-5, **_: F.batch_norm(
        x, mean, var, scale, bias, eps=epsilon
    ),
    "Cast": cast,
    "Ceil": torch.ceil,
    "Clip": clip,
    "Concat": concat,
    "Conv": partial(convolution, transposed=False),
    "ConvTranspose": partial(convolution, transposed=True),
    "Cos": torch.cos,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": dequantize_linear,
    "Div": divide,
    "Einsum": lambda *inputs, equation: torch.einsum(equation, *inputs),
    "Elu": lambda x, *, alpha=1.0: F.elu(x, alpha),
    "Equal": operator.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": expand,
    "Flatten": lambda x, *, axis=1: x.reshape(x.shape[:axis].numel(), -1),
    "Floor": torch.floor,
    "Gather": gather,
    "GatherElements": lambda x, indices, *, axis=0: x.gather(axis, indices),
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": gemm,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "InstanceNormalization": lambda x, scale, bias, *, epsilon=1e-5: F.instance_norm(
        x, weight=scale, bias=bias, eps=epsilon
    ),
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Log": torch.log,
    "LogSoftmax": lambda x, *, axis=-1: x.log_softmax(axis),
    "MatMul": torch.matmul,
    "Max": _extreme(torch.maximum),
    "MaxPool": max_pool,
    "Min": _extreme(torch.minimum),
    "Mul": operator.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Pad": pad,
    "Pow": operator.pow,
    "QuantizeLinear": quantize_linear,
    "Reciprocal": torch.reciprocal,
    "ReduceL1": partial(reduction, lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": partial(
        reduction, lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)
    ),
    "ReduceLogSumExp": partial(reduction, torch.logsumexp),
    "ReduceMax": partial(reduction, torch.amax),
    "ReduceMean": partial(reduction, torch.mean),
    "ReduceMin": partial(reduction, torch.amin),
    "ReduceSum": partial(reduction, torch.sum),
    "ReduceSumSquare": partial(reduction, lambda x, axes, keep: x.square().sum(axes, keep)),
    "Relu": torch.relu,
    "Reshape": reshape,
    "Resize": resize,
    "Round": torch.round,
    "Shape": shape_of,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Slice": slice_of,
    "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "Softplus": F.softplus,
    "Split": split,
    "Sqrt": torch.sqrt,
    "Squeeze": squeeze,
    "Sub": operator.sub,
    "Sum": _extreme(operator.add),
    "Tanh": torch.tanh,
    "Tile": lambda x, repeats: x.tile(repeats.tolist()),
    "TopK": top_k,
    "Transpose": lambda x, *, perm=None: x.permute(perm or tuple(range(x.ndim))[::-1]),
    "Unsqueeze": unsqueeze,
    "Where": torch.where,
}
