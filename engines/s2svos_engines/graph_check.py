"""The check of an ONNX model that comes from a stranger: it can compute, and do nothing else.

A model may name files beside it that hold its weights, and a runtime then reads them from wherever
it runs; it may hold functions, other graphs and operators of other domains. None of these is in a
graph that s2svos exports, so a model that has one is refused before an engine sees it. The model
is walked in the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding)
by the field numbers of onnx.proto: the package onnx is no part of an installation that only runs
graphs, and would load the weights first.
"""

from __future__ import annotations

from collections.abc import Iterator

OPERATORS = frozenset(
    {
        *("Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv"),
        *("ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Equal", "Exp", "Expand"),
        *("Gather", "Gemm", "GreaterOrEqual", "Identity", "Log", "MatMul", "Max", "MaxPool", "Min"),
        *("Mul", "Neg", "Pow", "QuantizeLinear", "Reciprocal", "ReduceL2", "ReduceMax"),
        *("ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice"),
        *("SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose"),
        *("Unsqueeze", "Where"),
    }
)
"""Operators of ONNX that exported graphs have or may have: arithmetic on tensors alone."""

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPHS_AND_SPARSE = {6, 11, 22, 23}
_TENSOR_EXTERNAL = {13, 14}  # external_data; data_location, of which 0 is in the model
_LENGTH_DELIMITED, _SIZES = 2, {1: 8, 5: 4}  # wire types; the others are varints

_Value = int | memoryview


def check_graph(model: bytes) -> None:
    """Refuse a model that holds anything but weights and :data:`OPERATORS`.

    Args:
        model: an ONNX ModelProto; of several pieces, all of them.

    Raises:
        ValueError: what it holds, as a phrase: ``names files outside of the bundle``.
    """
    graphs = 0
    for number, value in _fields(memoryview(model)):
        if number in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise ValueError("holds functions of its own")
        if number == _MODEL_GRAPH:
            graphs += 1
            _check_nodes(_message(value))
    if not graphs:
        raise ValueError("holds no graph")


def _check_nodes(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(_message(value))
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise ValueError("holds sparse weights")


def _check_node(node: memoryview) -> None:
    for number, value in _fields(node):
        if number == _NODE_OPERATOR and (name := _text(value)) not in OPERATORS:
            raise ValueError(f"holds the operator {name!r}")
        if number == _NODE_DOMAIN and (name := _text(value)) not in ("", "ai.onnx"):
            raise ValueError(f"holds operators of {name!r}")
        if number == _NODE_ATTRIBUTE:
            _check_attribute(_message(value))


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))
        elif number in _ATTRIBUTE_GRAPHS_AND_SPARSE:
            raise ValueError("holds graphs within a graph")


def _check_tensor(tensor: memoryview) -> None:
    if any(number in _TENSOR_EXTERNAL and value for number, value in _fields(tensor)):
        raise ValueError("names files outside of the bundle")


def _fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    """Yield number and value of each field of a message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == _LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError("is no ONNX model")
        if size > len(message) - position:
            raise ValueError("is cut off")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of up to 64 bits and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("is cut off")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("is no ONNX model")


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("is no ONNX model")
    return value


def _text(value: _Value) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
