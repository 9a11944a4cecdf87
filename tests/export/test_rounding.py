import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper
from torch.nn import functional as F

from s2svos_export import rounding
from s2svos_export.rounding import LEVELS, Inputs, RoundedWeights, round_weights

CASES = [  # groups, inputs, outputs, kernel, stride, padding, dilation
    (1, 6, 4, 3, 1, 1, 1),
    (6, 6, 6, 5, 2, 0, 1),
    (1, 4, 8, 3, 1, 2, 2),
    (1, 16, 8, 1, 1, 0, 1),
    (1, 4, 3, 2, 2, 0, 1),
]


def samples(channels: int) -> list[NDArray[np.float32]]:
    """Smooth maps, each of which another one resembles; their mean is not 0."""
    rng, found = np.random.default_rng(1), []
    for _ in range(24):
        coarse = torch.from_numpy(rng.normal(1, 1, (2, channels // 2, 4, 5)))
        half = F.interpolate(coarse, (12, 15), mode="bilinear").numpy()
        both = np.concatenate([half, half + rng.normal(0, 0.2, half.shape)], 1)
        found.append(both.astype(np.float32))
    return found


class Convolution:
    """A convolution with random weights, and its inputs."""

    def __init__(self, case: tuple[int, ...]) -> None:
        self.groups, inputs, outputs, kernel, self.stride, self.padding, self.dilation = case
        shape = outputs, inputs // self.groups, kernel, kernel
        self.weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self.samples = samples(inputs)
        self.inputs = Inputs(self.node(), shape)
        for one in self.samples:
            self.inputs.add(one)

    def node(self) -> NodeProto:
        return helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            group=self.groups,
            strides=[self.stride] * 2,
            pads=[self.padding] * 4,
            dilations=[self.dilation] * 2,
        )

    def run(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        settings = None, self.stride, self.padding, self.dilation, self.groups
        w = torch.from_numpy(weights)
        made = [F.conv2d(torch.from_numpy(one), w, *settings).numpy() for one in self.samples]
        return np.concatenate(made)


def nearest(weights: NDArray[np.float32], rounded: RoundedWeights) -> NDArray[np.float32]:
    scale = rounded.scale[:, None, None, None]
    return (np.rint(weights / scale) * scale).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_sums_err_less_than_with_weights_rounded_to_the_nearest(case: tuple[int, ...]) -> None:
    convolution = Convolution(case)
    rounded = round_weights(convolution.weights, convolution.inputs)
    levels = rounded.values / rounded.scale[:, None, None, None]
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert np.abs(np.rint(levels)).max() <= LEVELS
    exact = convolution.run(convolution.weights)
    error, by_nearest = (
        convolution.run(one) - exact
        for one in (rounded.values, nearest(convolution.weights, rounded))
    )
    assert error.std((0, 2, 3)).mean() < 0.85 * by_nearest.std((0, 2, 3)).mean()
    mean = error.mean((0, 2, 3))
    np.testing.assert_allclose(mean, rounded.mean_error, atol=0.01 * exact.std())


def test_of_many_inputs_each_weight_is_rounded_to_its_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounding, "MAX_INPUTS", 50)
    convolution = Convolution(CASES[0])
    rounded = round_weights(convolution.weights, convolution.inputs)
    np.testing.assert_allclose(
        rounded.values, nearest(convolution.weights, rounded), rtol=1e-5, atol=1e-7
    )


def test_weights_of_nothing_and_inputs_of_nothing_stay_finite() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    inputs = Inputs(node, (2, 3, 1, 1))
    inputs.add(np.zeros((1, 3, 4, 4), np.float32))
    weights = np.zeros((2, 3, 1, 1), np.float32)
    weights[0] = 1
    rounded = round_weights(weights, inputs)
    np.testing.assert_allclose(rounded.values, weights)
    assert np.isfinite(rounded.scale).all()
    assert not rounded.mean_error.any()


def test_inputs_that_hardly_vary_leave_it_to_the_biases() -> None:
    inputs = Inputs(helper.make_node("Conv", ["x", "w"], ["y"]), (4, 6, 1, 1))
    for level in (1000.0, 1000.001):
        inputs.add(np.full((1, 6, 4, 4), level, np.float32))
    weights = np.random.default_rng(0).normal(size=(4, 6, 1, 1)).astype(np.float32)
    rounded = round_weights(weights, inputs)
    levels = rounded.values / rounded.scale[:, None, None, None]
    assert np.abs(levels - np.rint(levels)).max() < 1e-4
    assert np.abs(levels).max() <= LEVELS + 1e-4
    exact = weights.reshape(4, 6).sum(1)
    made = rounded.values.reshape(4, 6).sum(1) - rounded.mean_error / 1000
    np.testing.assert_allclose(made, exact, atol=1e-4)
