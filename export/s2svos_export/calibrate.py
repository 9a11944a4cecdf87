"""What a step graph's convolutions take and make in closed loop, by which int8 is set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.closed_loop import NetworkClip
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_export.rounding import Inputs, RoundedWeights, round_weights

MIN_SAMPLES, MAX_SAMPLES = 8, 64
STRIDE = 4  # frames from one sample to the next: neighbours are nearly the same

Clip = Iterable[tuple[Frame, Labels]]
"""Frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W]; the objects are the first frame's."""
Feeds = Mapping[str, NDArray[np.generic]]
"""Inputs of a step graph by name."""


@dataclass(frozen=True)
class Calibrated:
    """Ranges of a convolution over samples, and its weights rounded by them.

    Args:
        low, high: the least and the largest value of its input.
        made_low, made_high: the least and the largest value of its output, behind the activation
            function if it has one (:func:`last_of_convolution`).
        macs: multiplications of the convolution.
        rounded: its weights.
    """

    low: float
    high: float
    made_low: float
    made_high: float
    macs: int
    rounded: RoundedWeights


def calibration_samples(engine: Engine, clips: Sequence[Clip]) -> list[Feeds]:
    """Return inputs that a step graph gets in closed loop.

    Args:
        engine: with the fp32 graphs.
        clips: videos, of which the beginnings are followed; each gives its share of about
            :data:`MAX_SAMPLES` inputs.

    Raises:
        UserError: the clips are too short.
    """
    share = math.ceil(MAX_SAMPLES / max(1, len(clips)))
    found = [feeds for clip in clips for feeds in islice(_feeds(engine, clip), share)]
    if len(found) < MIN_SAMPLES:
        raise UserError(
            f"The calibration clips have about {STRIDE * len(found)} frames, int8 wants at least "
            f"{STRIDE * MIN_SAMPLES}",
            "name longer ones with --calibrate",
        )
    return found


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


def readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor of a graph; of its outputs there is one more."""
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            found[name].append(node)
    for value in model.graph.output:
        found[value.name].append(onnx.NodeProto())
    return found


def last_of_convolution(
    node: onnx.NodeProto, read_by: Mapping[str, Sequence[onnx.NodeProto]]
) -> onnx.NodeProto:
    """Return the activation function that alone reads a convolution, or the convolution itself."""
    first, *others = read_by[node.output[0]]
    return first if not others and first.op_type in ("Clip", "Relu") else node


def calibrate(model: bytes, samples: Iterable[Feeds]) -> dict[str, Calibrated]:
    """Return ranges and rounded weights of each convolution, by the name of its weights.

    Args:
        model: a step graph in fp32, as the exporter wrote it.
        samples: inputs of the model.
    """
    proto = onnx.load_model_from_string(model)
    read_by = readers(proto)
    nodes = {node.input[1]: node for node in proto.graph.node if node.op_type == "Conv"}
    made = {name: last_of_convolution(node, read_by).output[0] for name, node in nodes.items()}
    initializers = {one.name: one for one in proto.graph.initializer}
    weights = {name: numpy_helper.to_array(initializers[name]) for name in nodes}
    tensors = sorted({*made.values(), *(node.input[0] for node in nodes.values())})
    given = {value.name for value in proto.graph.input}
    inner = [name for name in tensors if name not in given]
    known = given | {value.name for value in proto.graph.output}
    for name in inner:
        if name not in known:
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            proto.graph.output.append(info)
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False  # which would keep what all outputs take
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ranges = {name: _Range() for name in tensors}
    inputs = {name: Inputs(node, weights[name].shape) for name, node in nodes.items()}
    for feeds in samples:
        values = dict(feeds) | dict(zip(inner, session.run(inner, feeds), strict=True))
        for name in tensors:
            ranges[name].add(values[name])
        for name, node in nodes.items():
            inputs[name].add(values[node.input[0]])
        values.clear()  # before the next ones are made
    del session  # which has the weights too
    found = {}
    for name, node in nodes.items():
        summed, taken = inputs.pop(name), ranges[node.input[0]]
        found[name] = Calibrated(
            low=taken.low,
            high=taken.high,
            made_low=ranges[made[name]].low,
            made_high=ranges[made[name]].high,
            macs=weights[name].size * taken.pixels // math.prod(summed.stride),
            rounded=round_weights(weights[name], summed),
        )
    return found


class _Range:
    """The values of one tensor, float32 [B, channels, h, w], over the samples.

    Attributes:
        low, high: the least and the largest.
        pixels: of a sample.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.pixels = 0

    def add(self, value: NDArray[Any]) -> None:
        """Take the values of another sample."""
        self.low = min(self.low, float(value.min()))
        self.high = max(self.high, float(value.max()))
        self.pixels = math.prod(value.shape[2:])
