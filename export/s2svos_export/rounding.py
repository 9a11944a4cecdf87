"""Weights of a convolution in 7 bits, rounded together: what one rounds away, others make up for.

GPTQ (arXiv 2210.17323, section 3) with the inputs that a convolution has in closed loop: the sums
err less than where each weight is rounded to its nearest. The mean error is left to the biases
(arXiv 1906.04721, section 4.2), so only what varies counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

# Of a weight on either side of 0. Without VNNI, products of 8 by 8 bits are summed in 16 bits: by
# what overflowed with 127 OpenVINO's masks on AVX2 fell from IoU 0.76 to 0.56 (rendered clip).
LEVELS = 64
DAMPING = 0.01  # of the mean variance, added to all: samples say little of what varies little
FLOOR = 1e-7  # of the mean square, likewise: the inputs are float32
MIN_PATCHES = 32  # of a sample
MAX_INPUTS = 2304  # of an output; of more the factors take minutes and gigabytes
SHARE = 4  # inputs of an output for each patch that is taken of a sample

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RoundedWeights:
    """Weights of a convolution as 7 bits have them.

    Args:
        values: float32 [out, in / groups, k, k], multiples of the scale.
        scale: of each output channel, float32 [out].
        mean_error: what the outputs are too large by on the mean, float32 [out].
    """

    values: NDArray[np.float32]
    scale: NDArray[np.float32]
    mean_error: NDArray[np.float32]


class Inputs:
    """What the outputs of a convolution are sums of, over samples.

    Args:
        node: the convolution.
        shape: of its weights, [out, in / groups, k, k].

    Attributes:
        size: inputs of an output.
        stride: of the convolution, rows and columns.
    """

    def __init__(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> None:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self._groups: int = attributes.get("group", 1)
        self.stride: list[int] = attributes.get("strides", [1, 1])
        self._dilation: list[int] = attributes.get("dilations", [1, 1])
        self._padding: list[int] = attributes.get("pads", [0] * 4)
        self._kernel = shape[2:]
        self.size = shape[1] * shape[2] * shape[3]
        self._count = 0
        self._sum: Array = np.zeros((self._groups, self.size))
        kept = self.size if self.size <= MAX_INPUTS else 0
        self._products: Array = np.zeros((self._groups, kept, kept))
        self._rng = np.random.default_rng(0)

    def add(self, value: NDArray[Any]) -> None:
        """Take some patches of a sample's input, float32 [B, in, h, w]."""
        patches = self._patches(value, max(MIN_PATCHES, self.size // SHARE)).astype(np.float64)
        self._count += patches.shape[1]
        self._sum += patches.sum(1)
        if self._products.size:
            self._products += patches.transpose(0, 2, 1) @ patches

    @property
    def mean(self) -> Array:
        """Of each input of an output, [groups, inputs]."""
        return self._sum / self._count

    @property
    def covariance(self) -> Array | None:
        """Of the inputs of an output, [groups, inputs, inputs]; None if they are too many."""
        if not self._products.size:
            return None
        mean, squares = self.mean, self._products / self._count
        power = np.trace(squares, axis1=1, axis2=2)[:, None, None] / self.size
        # Of inputs that hardly vary a difference of squares alone may be below 0.
        least: Array = FLOOR * power * np.eye(self.size)
        return least + squares - mean[:, :, None] * mean[:, None, :]

    def _patches(self, value: NDArray[Any], count: int) -> NDArray[Any]:
        """Return patches at random places, [groups, count, inputs]."""
        top, left, bottom, right = self._padding
        padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
        rows, columns = (
            self._places(padded.shape[2 + axis], axis, count) for axis in range(len(self._kernel))
        )
        frames = self._rng.integers(len(value), size=(count, 1, 1))
        found = padded[frames, :, rows[:, :, None], columns[:, None]]  # [count, k, k, in]
        grouped = found.reshape(*found.shape[:3], self._groups, -1).transpose(3, 0, 4, 1, 2)
        return grouped.reshape(self._groups, count, self.size)

    def _places(self, size: int, axis: int, count: int) -> NDArray[np.int64]:
        """Return the rows or columns of random patches in a padded input, [count, k]."""
        offsets = self._dilation[axis] * np.arange(self._kernel[axis])
        ends = (size - offsets[-1] - 1) // self.stride[axis] + 1
        places: NDArray[np.int64] = self._rng.integers(ends, size=(count, 1))
        return self.stride[axis] * places + offsets


def round_weights(weights: NDArray[np.float32], inputs: Inputs) -> RoundedWeights:
    """Round the weights of a convolution, float32 [out, in / groups, k, k]."""
    largest = np.abs(weights).max((1, 2, 3))
    scale = (np.where(largest > 0, largest, 1) / LEVELS).astype(np.float32)
    mean, covariance = inputs.mean, inputs.covariance
    groups = len(mean)
    exact = weights.astype(np.float64).reshape(groups, -1, inputs.size)
    scales = scale.astype(np.float64).reshape(groups, -1, 1)
    if covariance is None:
        levels = np.rint(exact / scales)
    else:
        levels = _compensated(exact / scales, covariance)
    error = (levels * scales - exact) @ mean[:, :, None]
    return RoundedWeights(
        values=(levels * scales).reshape(weights.shape).astype(np.float32),
        scale=scale,
        mean_error=error.reshape(-1).astype(np.float32),
    )


def _compensated(weights: Array, covariance: Array) -> Array:
    """Round weights one after the other; those to come make up for the error.

    Args:
        weights: in levels, [groups, out / groups, inputs].
        covariance: of their inputs, [groups, inputs, inputs].

    Returns:
        Whole levels, like ``weights``.
    """
    size = weights.shape[2]
    variance = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size
    damped = covariance + (DAMPING * variance + np.finfo(np.float32).tiny) * np.eye(size)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)  # upper
    left, levels = weights.copy(), np.empty_like(weights)
    for index in range(size):
        own = left[:, :, index]
        levels[:, :, index] = np.clip(np.rint(own), -LEVELS, LEVELS)
        error = (own - levels[:, :, index]) / factor[:, index, index, None]
        left[:, :, index:] -= error[:, :, None] * factor[:, None, index, index:]
    return levels
