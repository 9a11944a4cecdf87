"""Ranges and means of what enters a step graph's convolutions, by which int8 is set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.closed_loop import NetworkClip
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError

MIN_SAMPLES, MAX_SAMPLES = 8, 32
STRIDE = 4  # frames from one sample to the next: neighbours are nearly the same

Clip = Iterable[tuple[Frame, Labels]]
"""Frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W]; the objects are the first frame's."""
Feeds = Mapping[str, NDArray[np.generic]]
"""Inputs of a step graph by name."""


@dataclass(frozen=True)
class Activation:
    """Statistics of a convolution's input.

    Args:
        low, high: the least and the largest value.
        mean: of each channel, float32 [channels].
        macs: multiplications of the convolution.
    """

    low: float
    high: float
    mean: NDArray[np.float32]
    macs: int


def calibration_samples(engine: Engine, clips: Iterable[Clip]) -> list[Feeds]:
    """Return inputs that a step graph gets in closed loop.

    Args:
        engine: with the fp32 graphs.
        clips: videos; at most :data:`MAX_SAMPLES` of their inputs are taken, evenly spread.

    Raises:
        UserError: the clips are too short.
    """
    found = [feeds for clip in clips for feeds in _feeds(engine, clip)]
    if len(found) < MIN_SAMPLES:
        raise UserError(
            f"The calibration clips have about {STRIDE * len(found)} frames, int8 wants at least "
            f"{STRIDE * MIN_SAMPLES}",
            "name longer ones with --calibrate",
        )
    chosen = np.linspace(0, len(found) - 1, min(MAX_SAMPLES, len(found))).round().astype(int)
    return [found[index] for index in chosen]


def _feeds(engine: Engine, clip: Clip) -> Iterator[Feeds]:
    contract = engine.contract
    following = NetworkClip.of(clip, contract)
    runner = following.start(engine)
    for index, frame in enumerate(following.frames):
        if index % STRIDE == 0:
            states = zip(contract.states, runner.states(), strict=True)
            values = {state.input.name: value.copy() for state, value in states}
            yield {contract.frame.name: frame, **values}
        runner.step(frame)


def activations(model: bytes, samples: Iterable[Feeds]) -> dict[str, Activation]:
    """Return the statistics of each convolution's input, by the name of its weights.

    Args:
        model: a step graph in fp32, as the exporter wrote it.
        samples: inputs of the model.
    """
    proto = onnx.load_model_from_string(model)
    nodes = {node.input[1]: node for node in proto.graph.node if node.op_type == "Conv"}
    sizes = {one.name: math.prod(one.dims) for one in proto.graph.initializer}
    tensors = sorted({node.input[0] for node in nodes.values()})
    given = {value.name for value in proto.graph.input}
    inner = [name for name in tensors if name not in given]
    known = given | {value.name for value in proto.graph.output}
    for name in inner:
        if name not in known:
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            proto.graph.output.append(info)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = {name: _Seen() for name in tensors}
    for feeds in samples:
        values = dict(feeds) | dict(zip(inner, session.run(inner, feeds), strict=True))
        for name in tensors:
            seen[name].add(values[name])
    return {
        weights: seen[node.input[0]].activation(sizes[weights], math.prod(_strides(node)))
        for weights, node in nodes.items()
    }


class _Seen:
    """The values of one tensor, float32 [B, channels, h, w], over the samples."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf
        self._means: list[NDArray[np.float32]] = []
        self._pixels = 0

    def add(self, value: NDArray[Any]) -> None:
        """Take the values of another sample."""
        self._low = min(self._low, float(value.min()))
        self._high = max(self._high, float(value.max()))
        self._means.append(value.mean((0, 2, 3), dtype=np.float32))
        self._pixels = math.prod(value.shape[2:])

    def activation(self, kernel: int, stride: int) -> Activation:
        """Return the statistics for a convolution of so many weights and input pixels a step."""
        mean = np.mean(self._means, axis=0)
        return Activation(self._low, self._high, mean, kernel * self._pixels // stride)


def _strides(node: onnx.NodeProto) -> tuple[int, ...]:
    return next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1,))
