"""What a graph has to compute and to move.

FLOPs are two for every multiplication and addition of convolutions and matrix products. Bytes are
those that cannot be avoided: all weights once, every input and every output of the graph. Results
in between are not counted, since caches may keep them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from s2svos_engines.contract import ENTRIES


@dataclass(frozen=True)
class Work:
    """What one call of a graph costs.

    Args:
        nodes: FLOPs of each node that has any, by its name.
        layers: what these nodes are in the network, by the names of their weights.
        bytes: that have to be moved.
    """

    nodes: dict[str, int]
    layers: dict[str, str]
    bytes: int

    @property
    def flops(self) -> int:
        """Of all nodes."""
        return sum(self.nodes.values())


def count(model: bytes, *, objects: int) -> Work:
    """Count the work of a graph.

    Args:
        model: ONNX.
        objects: how many there are, which entered together.

    Raises:
        ValueError: the shape of a convolution or matrix product cannot be inferred.
    """
    graph = onnx.load_from_string(model)
    for value in graph.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = 1 if dimension.dim_param == ENTRIES else objects
    del graph.graph.value_info[:]
    for value in graph.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(graph, data_prop=True)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.value_info, *graph.graph.output)
    }
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    shapes |= {name: list(tensor.dims) for name, tensor in weights.items()}
    flops = {_name(node): _flops(node, shapes) for node in graph.graph.node}
    moved = sum(numpy_helper.to_array(tensor).nbytes for tensor in weights.values())
    for value in (*graph.graph.input, *graph.graph.output):
        tensor_type = value.type.tensor_type
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).itemsize
        moved += item * math.prod(shapes[value.name])
    return Work({name: one for name, one in flops.items() if one}, _layers(graph.graph), moved)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _flops(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    left, right, out = (shapes.get(x, [0]) for x in (*node.input[:2], node.output[0]))
    if not all(math.prod(shape) for shape in (left, right, out)):
        raise ValueError(f"the shapes of {node.op_type} {node.name!r} are not known")
    if node.op_type == "Conv":  # weights [outputs, inputs / groups, *kernel]
        return 2 * math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":  # weights [inputs, outputs / groups, *kernel]
        return 2 * math.prod(left) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * math.prod(out) * (left[-2] if transposed else left[-1])


def _layers(graph: onnx.GraphProto) -> dict[str, str]:
    """Name nodes by their weights: ``decoder.conv8.0`` for ``network.decoder.conv8.0.weight``."""
    weights = {tensor.name for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    found = {}
    for node in graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if name in makers and makers[name].op_type == "DequantizeLinear":
            name = makers[name].input[0].removesuffix("_quantized")
            weights.add(name)
        if name in weights and name.endswith(".weight"):
            found[_name(node)] = name.removesuffix(".weight").removeprefix("network.")
    return found
