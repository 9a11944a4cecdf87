"""Quantisation of a step graph: some of its convolutions in int8, by Q/DQ nodes.

In two forms. On a processor, ONNX Runtime and OpenVINO compute what lies between two quantised
tensors in 8 bits: uint8 before and behind a convolution with its activation function, biases in
int32, and sums of quantised tensors quantised too, so that a chain of convolutions stays in 8 bits.
TensorRT takes none of that, on a GPU: symmetric int8 before convolutions alone. In both the weights
are symmetric, by channel, of 7 bits; the rest of the graph stays fp32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from s2svos_export.calibrate import Calibrated, last_of_convolution, readers

GPU_OPTIONS = {
    "ActivationSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
}

_Ranges = Mapping[str, tuple[float, float]]  # the least and the largest value of tensors
_Scales = Mapping[str, NDArray[np.float32]]  # of weights, [out]


def convolutions(model: bytes) -> tuple[str, ...]:
    """Return the names of the weights of a graph's convolutions, in the graph's order."""
    nodes = onnx.load_model_from_string(model).graph.node
    return tuple(dict.fromkeys(node.input[1] for node in nodes if node.op_type == "Conv"))


def quantise(model: bytes, calibrated: Mapping[str, Calibrated], weights: Collection[str]) -> bytes:
    """Return a step graph with some of its convolutions in int8, for engines on a processor.

    Args:
        model: fp32, as the exporter wrote it; of one or several frames a call.
        calibrated: ranges and weights of the convolutions of the graph of one frame a call.
        weights: names of the weights of the convolutions to quantise.
    """
    proto = onnx.load_model_from_string(model)
    chosen = _chosen(proto, weights)
    if not chosen:
        return model
    scales = _round(proto, chosen, calibrated)
    read_by = readers(proto)
    ranges, nodes = _input_ranges(chosen, calibrated), list(chosen)
    for node in chosen:
        seen, last = calibrated[node.input[1]], last_of_convolution(node, read_by)
        for name in node.output[0], last.output[0]:  # uint8's range does what Clip and Relu do
            ranges[name] = seen.made_low, seen.made_high
        nodes.append(last)
    sums = [one for one in proto.graph.node if one.op_type == "Add"]
    nodes += [one for one in sums if {*one.input, *one.output} <= ranges.keys()]
    return _quantised(proto, nodes, ranges, scales, QuantType.QUInt8, {})


def quantise_for_gpu(
    model: bytes, calibrated: Mapping[str, Calibrated], weights: Collection[str]
) -> bytes:
    """Return what :func:`quantise` does in the form that TensorRT takes; like it."""
    proto = onnx.load_model_from_string(model)
    chosen = _chosen(proto, weights)
    if not chosen:
        return model
    scales = _round(proto, chosen, calibrated)
    ranges = _input_ranges(chosen, calibrated)
    return _quantised(proto, chosen, ranges, scales, QuantType.QInt8, GPU_OPTIONS)


def _chosen(model: onnx.ModelProto, weights: Collection[str]) -> list[onnx.NodeProto]:
    return [one for one in model.graph.node if one.op_type == "Conv" and one.input[1] in weights]


def _input_ranges(
    nodes: Iterable[onnx.NodeProto], calibrated: Mapping[str, Calibrated]
) -> dict[str, tuple[float, float]]:
    seen = {node.input[0]: calibrated[node.input[1]] for node in nodes}
    return {name: (one.low, one.high) for name, one in seen.items()}


def _quantised(
    model: onnx.ModelProto,
    nodes: Collection[onnx.NodeProto],
    ranges: _Ranges,
    scales: _Scales,
    activation: QuantType,
    options: Mapping[str, object],
) -> bytes:
    """Return a graph with Q/DQ nodes around some nodes."""
    limits = {
        name: (np.array([low], np.float32), np.array([high], np.float32))
        for name, (low, high) in ranges.items()
    }
    by_channel = {
        name: [{"axis": 0, "scale": one, "zero_point": 0} for one in scale]
        for name, scale in scales.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,  # the scales say it
        weight_qType=QuantType.QInt8,
        activation_qType=activation,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in nodes}),
        extra_options={**options, "TensorQuantOverrides": by_channel},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model = quantizer.model.model
    for one in model.graph.initializer:  # which the quantizer writes out: no longer fp32's bytes
        one.ClearField("data_location")
    used = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _round(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], calibrated: Mapping[str, Calibrated]
) -> _Scales:
    """Put rounded weights in, take their mean error out of the biases; return their scales."""
    values = {one.name: one for one in model.graph.initializer}
    scales = {}
    for node in nodes:
        name = node.input[1]
        bias = node.input[2] if len(node.input) > 2 else ""
        rounded = calibrated[name].rounded
        # By both: several convolutions may share either, as in stepT.
        corrected = f"{name}_{bias}_corrected"
        if corrected not in values:
            value = (numpy_helper.to_array(values[bias]) if bias else 0) - rounded.mean_error
            values[corrected] = numpy_helper.from_array(value.astype(np.float32), corrected)
            model.graph.initializer.append(values[corrected])
        del node.input[2:]
        node.input.append(corrected)
        values[name].CopyFrom(numpy_helper.from_array(rounded.values, name))
        scales[name] = rounded.scale
    return scales
