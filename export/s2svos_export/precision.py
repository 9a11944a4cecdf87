"""One traced graph in several precisions.

To trace and translate a network is nearly all the time of an export without int8, so for fp32 and
fp16 it is done once, in double precision: its type marks what half precision takes, where the
network keeps float32 for the rest. What is double becomes float32 or half; weights and folded
constants are rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
"""What double precision becomes, by the name of the precision."""


class TracedGraph:
    """A traced graph, in double precision where half precision is to take part.

    Args:
        model: without initializers, its inputs and outputs of other types; with the types of all
            values, without subgraphs.
        weights: the values of its initializers by name.
    """

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]]) -> None:
        self._model, self._weights = model, weights

    def in_precision(self, precision: str) -> onnx.ModelProto:
        """Return the graph in one of :data:`TYPES`."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        kind, graph = TYPES[precision], model.graph
        for value in graph.value_info:
            if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
                value.type.tensor_type.elem_type = kind
        for name, array in self._weights.items():
            graph.initializer.append(numpy_helper.from_array(_rounded(array, kind), name))
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    array = _rounded(numpy_helper.to_array(attribute.t), kind)
                    attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
                elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.DOUBLE:
                    attribute.i = kind
        _drop_casts_to_the_same(graph)
        return model


def _rounded(array: NDArray[Any], kind: int) -> NDArray[Any]:
    """Return doubles in another type, other values as they are."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):  # infinite, as it is in a network that computes in half
        return array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _drop_casts_to_the_same(graph: onnx.GraphProto) -> None:
    """Take out casts between what was double and float32 and is of one type now."""
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= constants
    outputs = {value.name for value in graph.output}
    kept = {value.name for value in graph.input} | outputs | constants.keys()
    casts = [node for node in graph.node if node.op_type == "Cast"]
    for node in casts:
        (source,), (target,) = node.input, node.output
        if types.get(source) != node.attribute[0].i:
            continue
        if source in kept and target in outputs:
            node.op_type = "Identity"
            del node.attribute[:]
            continue
        graph.node.remove(node)
        old, new = (source, target) if target in outputs else (target, source)
        for other in graph.node:
            for names in (other.input, other.output):
                names[:] = [new if name == old else name for name in names]
