"""What flows through a step graph while it follows objects: the ranges that int8 needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.contract import StepContract
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Letterbox

LEAST_READINGS = 8
READINGS = 32
EVERY = 4  # frames from one reading to the next: neighbours say the same

Clip = Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W]; the first frame's are followed."""
Feed = Mapping[str, NDArray[np.generic]]
"""Inputs of a step graph by name."""


@dataclass(frozen=True)
class Activation:
    """What enters a convolution.

    Args:
        low, high: the least and the largest value.
        mean: of each channel, float32 [channels].
        multiplications: of the convolution.
    """

    low: float
    high: float
    mean: NDArray[np.float32]
    multiplications: int


def readings(engine: Engine, contract: StepContract, clips: Iterable[Clip]) -> list[Feed]:
    """Inputs of the step graph, met in closed loop.

    Args:
        engine: with the fp32 graphs.
        contract: of the graphs.
        clips: videos; all of them together give at most :data:`READINGS`, evenly spread.

    Raises:
        UserError: the clips are too short.
    """
    found = [feed for clip in clips for feed in _feeds(engine, contract, clip)]
    if len(found) < LEAST_READINGS:
        raise UserError(
            f"The calibration clips have about {EVERY * len(found)} frames, int8 wants at least "
            f"{EVERY * LEAST_READINGS}",
            "name longer ones with --calibrate",
        )
    chosen = np.linspace(0, len(found) - 1, min(READINGS, len(found))).round().astype(int)
    return [found[index] for index in chosen]


def _feeds(engine: Engine, contract: StepContract, clip: Clip) -> Iterator[Feed]:
    frames = iter(clip)
    frame, ids = next(frames)
    fit = Letterbox.of(frame.shape[:2], (contract.height, contract.width))
    objects = np.unique(ids[ids > 0])
    masks = np.stack([fit.resize((ids == i).astype(np.uint8) * np.uint8(255)) for i in objects])
    runner = engine.runner(engine.init(fit.resize(frame), masks))
    for index, (frame, _) in enumerate(frames):
        picture = fit.resize(frame)
        if index % EVERY == 0:
            states = zip(contract.states, runner.states(), strict=True)
            feed = {state.input.name: value.copy() for state, value in states}
            yield {contract.frame.name: picture, **feed}
        runner.step(picture)


def activations(model: bytes, feeds: Iterable[Feed]) -> dict[str, Activation]:
    """What enters each convolution of a step graph, by the name of its weights.

    Args:
        model: fp32, as the exporter wrote it.
        feeds: inputs of the model.
    """
    proto = onnx.load_model_from_string(model)
    nodes = {n.input[1]: n for n in proto.graph.node if n.op_type == "Conv"}
    entering = {weights: node.input[0] for weights, node in nodes.items()}
    sizes = {one.name: math.prod(one.dims) for one in proto.graph.initializer}
    known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    for name in sorted(set(entering.values()) - known):
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        proto.graph.output.append(info)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    inner = sorted(set(entering.values()) - {value.name for value in proto.graph.input})
    names = sorted(set(entering.values()))
    lows, highs, means = ({name: [] for name in names} for _ in range(3))  # type: ignore[var-annotated]
    places: dict[str, int] = {}
    for feed in feeds:
        seen = dict(feed) | dict(zip(inner, session.run(inner, feed), strict=True))
        for name in names:
            value = seen[name]
            places[name] = math.prod(value.shape[2:])
            lows[name].append(value.min())
            highs[name].append(value.max())
            means[name].append(value.mean((0, 2, 3), dtype=np.float32))
    return {
        weights: Activation(
            float(min(lows[name])),
            float(max(highs[name])),
            np.mean(means[name], axis=0),
            sizes[weights] * places[name] // math.prod(_strides(nodes[weights])),
        )
        for weights, name in entering.items()
    }


def _strides(node: onnx.NodeProto) -> tuple[int, ...]:
    return next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1,))
