"""Quantisation of a step graph: Q/DQ nodes before its convolutions.

Symmetric int8, weights by channel, no quantised bias and nothing quantised behind a convolution:
the form that TensorRT, OpenVINO and ONNX Runtime all take. The rest of the graph stays fp32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from s2svos_export.calibrate import Activation

OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
}


def convolutions(model: bytes) -> tuple[str, ...]:
    """Return the names of the weights of a graph's convolutions, in the graph's order."""
    nodes = onnx.load_model_from_string(model).graph.node
    return tuple(dict.fromkeys(node.input[1] for node in nodes if node.op_type == "Conv"))


def quantise(
    model: bytes, activations: Mapping[str, Activation], weights: Collection[str]
) -> bytes:
    """Return a step graph with some of its convolutions in int8.

    Args:
        model: fp32, as the exporter wrote it; of one or several frames a call.
        activations: of the convolutions of the graph of one frame a call.
        weights: names of the weights of the convolutions to quantise.
    """
    proto = onnx.load_model_from_string(model)
    chosen = [n for n in proto.graph.node if n.op_type == "Conv" and n.input[1] in weights]
    if not chosen:  # of no nodes the quantizer would take all
        return model
    ranges = {}
    for node in chosen:
        seen = activations[node.input[1]]
        ranges[node.input[0]] = (
            np.array([seen.low], np.float32),
            np.array([seen.high], np.float32),
        )
    names = [node.name for node in chosen]
    exact = _weights(proto)
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        # 7 bits for weights: without VNNI, products of 8 by 8 bits are summed in 16 bits, and
        # OpenVINO's masks on AVX2 fell from IoU 0.76 to 0.56 (rendered clip) by what overflowed.
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options=OPTIONS,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised = quantizer.model.model
    _correct_biases(quantised, exact, activations)
    onnx.checker.check_model(quantised, full_check=True)
    serialised: bytes = quantised.SerializeToString()
    return serialised


def _correct_biases(
    model: onnx.ModelProto,
    exact: Mapping[str, NDArray[np.float32]],
    activations: Mapping[str, Activation],
) -> None:
    """Take the mean error of rounded weights out of the biases (arXiv 1906.04721, section 4.2).

    Raised the mean IoU with fp32 over 100 frames from 0.936 to 0.955 with the backbone in int8.
    """
    present = {initializer.name: initializer for initializer in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    corrected: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        maker = makers.get(node.input[1]) if node.op_type == "Conv" else None
        if maker is None or maker.op_type != "DequantizeLinear":
            continue
        name = maker.input[0].removesuffix("_quantized")
        bias = node.input[2] if len(node.input) > 2 else ""
        if (name, bias) not in corrected:
            rounded = numpy_helper.to_array(present[maker.input[0]]).astype(np.float32)
            scale = numpy_helper.to_array(present[maker.input[1]]).reshape(-1, 1, 1, 1)
            error = _mean_output(rounded * scale - exact[name], activations[name].mean)
            value = (numpy_helper.to_array(present[bias]) if bias else 0) - error
            # By the bias: the quantizer copies one that several convolutions share, as in stepT.
            corrected[name, bias] = f"{bias or name}_corrected"
            model.graph.initializer.append(
                numpy_helper.from_array(value.astype(np.float32), corrected[name, bias])
            )
        del node.input[2:]
        node.input.append(corrected[name, bias])
    for one in model.graph.initializer:  # which the quantizer writes out: no longer fp32's bytes
        one.ClearField("data_location")
    used = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _mean_output(weights: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each output channel, float32 [out].

    Args:
        weights: [out, in / groups, k, k].
        mean: of the input, [in].
    """
    outputs, inputs = weights.shape[:2]
    groups = len(mean) // inputs
    by_group = weights.sum((2, 3)).reshape(groups, outputs // groups, inputs)
    means: NDArray[np.float32] = np.einsum("goi,gi->go", by_group, mean.reshape(groups, inputs))
    return means.reshape(outputs)


def _weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    wanted = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    return {
        one.name: numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.name in wanted
    }
