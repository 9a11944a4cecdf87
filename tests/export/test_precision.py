"""A graph that was traced in double precision, in those that it is exported in."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from s2svos_export.precision import TYPES, TracedGraph

DOUBLE, FLOAT, BYTES = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.UINT8
WEIGHT = 1 / 3 + 1e-12  # which float32 rounds


def traced() -> onnx.ModelProto:
    """A graph as the exporter writes it: ``keys`` in float32 whatever the rest is computed in."""
    value = helper.make_tensor_value_info

    def cast(source: str, target: str, kind: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], to=kind)

    nodes = [
        cast("frame", "pixels", DOUBLE),
        cast("state", "low_state", DOUBLE),
        helper.make_node("Mul", ["pixels", "weight"], ["scaled"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=doubles("one", [1.0])),
        helper.make_node("Add", ["scaled", "ones"], ["shifted"]),
        cast("shifted", "keys", FLOAT),
        helper.make_node("Exp", ["keys"], ["similar"]),
        cast("similar", "low_similar", DOUBLE),
        helper.make_node("Add", ["low_similar", "low_state"], ["sum"]),
        cast("sum", "next_state", FLOAT),
        cast("low_state", "same_state", FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "traced",
        [value("frame", BYTES, [4]), value("state", FLOAT, [4])],
        [value(name, FLOAT, [4]) for name in ("next_state", "same_state")],
        [doubles("weight", [WEIGHT]), numpy_helper.from_array(np.array([4]), "shape")],
        value_info=[
            *(value(name, FLOAT, [4]) for name in ("keys", "similar")),
            *(
                value(name, DOUBLE, [4])
                for name in ("pixels", "low_state", "scaled", "ones", "shifted")
            ),
            *(value(name, DOUBLE, [4]) for name in ("low_similar", "sum")),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def traced_graph(weight: float = WEIGHT) -> TracedGraph:
    model = traced()
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    del model.graph.initializer[:]
    return TracedGraph(model, weights | {"weight": np.array([weight])})


def doubles(name: str, values: list[float]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float64), name)


def computed(model: onnx.ModelProto) -> list[NDArray[np.generic]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state = np.array([0.1, 1e-5, 3, -2], np.float32)
    frame = np.array([0, 1, 2, 3], np.uint8)
    return list(session.run(None, {"frame": frame, "state": state}))


@pytest.mark.parametrize("precision", TYPES)
def test_what_is_double_becomes_another_precision(precision: str) -> None:
    model = traced_graph().in_precision(precision)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {one.name: one.type.tensor_type.elem_type for one in values}
    types |= {one.name: one.data_type for one in graph.initializer}
    assert types["scaled"] == types["weight"] == TYPES[precision]
    assert types["keys"] == types["similar"] == FLOAT, "float32 of the network stays"
    (weight,) = (numpy_helper.to_array(one) for one in graph.initializer if one.name == "weight")
    assert weight == weight.dtype.type(WEIGHT)
    tolerance = {"fp32": 1e-6, "fp16": 1e-2}[precision]
    for found, expected in zip(computed(model), computed(traced()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_float32_is_not_cast_to_itself() -> None:
    graph = traced_graph().in_precision("fp32").graph
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert [list(node.input) for node in casts] == [["frame"]]
    assert [node.input[0] for node in graph.node if node.op_type == "Identity"] == ["state"]
    assert [one.name for one in graph.output] == ["next_state", "same_state"]
    half = traced_graph().in_precision("fp16").graph
    assert len([node for node in half.node if node.op_type == "Cast"]) == 6


def test_one_traced_graph_serves_both() -> None:
    graph = traced_graph()
    half = graph.in_precision("fp16")
    assert graph.in_precision("fp32") == traced_graph().in_precision("fp32")
    assert graph.in_precision("fp16") == half


def test_what_half_precision_cannot_hold_is_infinite() -> None:
    (weight,) = (
        numpy_helper.to_array(one)
        for one in traced_graph(weight=1e6).in_precision("fp16").graph.initializer
        if one.name == "weight"
    )
    assert np.isinf(weight)
