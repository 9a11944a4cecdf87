"""ONNX graphs in PyTorch: every operator against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from s2svos_engines.errors import UserError
from s2svos_engines.onnx_torch.graph import Graph
from s2svos_engines.onnx_torch.operators import OPERATORS

Array = NDArray[Any]
OPSET = 20


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(0, 1.5, shape).astype(np.float32)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


X = normal(2, 4, 6, 8)
ONES = np.linspace(0.5, 2, 4).astype(np.float32)
EVEN = X.round()
SMALL = np.array(0.5, np.float32)
TIES = np.arange(-70, 70, 0.25, np.float32).reshape(2, 4, 7, 10)
BYTES = np.random.default_rng(1).integers(-128, 128, X.shape).astype(np.int8)

# Operator, inputs, attributes. The first input varies, the rest are constants of the graph.
CASES: list[tuple[str, list[Array | None], dict[str, Any]]] = [
    *((name, [X], {}) for name in ("Abs", "Exp", "Identity", "Neg", "Reciprocal", "Relu")),
    *((name, [X], {}) for name in ("Sigmoid", "Softmax", "Tanh", "Shape", "Transpose")),
    *((name, [abs(X)], {}) for name in ("Log", "Sqrt")),
    *((name, [X, normal(4, 1, 1)], {}) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *((name, [X, X.round(), X[:1]], {}) for name in ("Max", "Min", "Sum")),
    ("GreaterOrEqual", [X.round(), X.round()[::-1].copy()], {}),
    ("Equal", [X.round(), X.round()[::-1].copy()], {}),
    ("Where", [X > 0, X, X[::-1].copy()], {}),
    ("Pow", [abs(X), SMALL], {}),
    ("Div", [whole(7, -7), whole(2, 2)], {}),
    ("Cast", [X], {"to": TensorProto.INT32}),
    ("Clip", [X, -SMALL, SMALL], {}),
    ("Clip", [X, None, SMALL], {}),
    ("Concat", [X, X[:, :1]], {"axis": 1}),
    ("Split", [X], {"axis": 1, "num_outputs": 2}),
    ("Split", [X, whole(1, 3)], {"axis": 1}),
    ("Reshape", [X, whole(0, -1, 2)], {}),
    ("Reshape", [X, whole(2, -1)], {"allowzero": 1}),
    ("Squeeze", [X[:, :1, :1], whole(1, -2)], {}),
    ("Squeeze", [X[:1, :1]], {}),
    ("Unsqueeze", [X, whole(0, -1)], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Expand", [X[:, :1], whole(3, 1, 4, 1, 8)], {}),
    ("Expand", [X[:, :1, :1], whole(1, 4, 1, 1)], {}),
    ("Gather", [X, whole(3, -1)], {"axis": 1}),
    ("Gather", [X, np.array(1)], {"axis": 2}),
    ("Slice", [X, whole(1, -3), whole(9, 2**60), whole(1, 3)], {}),
    ("Slice", [X, whole(-1), whole(-(2**60)), whole(3), whole(-2)], {}),
    ("DepthToSpace", [X], {"blocksize": 2}),
    ("DepthToSpace", [X], {"blocksize": 2, "mode": "CRD"}),
    ("MatMul", [X, normal(8, 3)], {}),
    ("Softmax", [X], {"axis": 1}),
    ("Conv", [X, normal(6, 4, 3, 3), normal(6)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", [X, normal(4, 1, 3, 3)], {"pads": [0, 0, 1, 1], "strides": [2, 2], "group": 4}),
    ("Conv", [X, normal(2, 4, 3, 3)], {"dilations": [2, 1]}),
    ("ConvTranspose", [X, normal(4, 3, 3, 3), normal(3)], {"strides": [2, 2], "pads": [1] * 4}),
    ("ConvTranspose", [X, normal(4, 3, 5, 5)], {"strides": [2, 2], "output_padding": [1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    *(
        ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear", **extra})
        for extra in ({}, {"coordinate_transformation_mode": "align_corners"})
    ),
    ("Resize", [X, None, None, whole(2, 4, 3, 5)], {"mode": "linear"}),
    (
        "Resize",
        [X, None, np.array([1, 1, 3, 3], np.float32)],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    *(
        (name, [X, whole(1, -1)], {"keepdims": keep})
        for name in sorted(OPERATORS)
        if name.startswith("Reduce")
        for keep in (0, 1)
    ),
    # Halves are ties, 127 and 128 steps from zero are the ends of the ranges.
    ("QuantizeLinear", [TIES, SMALL, np.int8(0)], {}),
    ("QuantizeLinear", [TIES, SMALL, np.uint8(128)], {}),
    ("QuantizeLinear", [TIES, SMALL], {}),
    ("QuantizeLinear", [X, ONES / 40, np.array([-9, 0, 1, 9], np.int8)], {}),
    ("QuantizeLinear", [X, normal(8) ** 2, np.zeros(8, np.uint8)], {"axis": -1}),
    ("DequantizeLinear", [BYTES, SMALL, np.int8(3)], {}),
    ("DequantizeLinear", [BYTES.astype(np.int32) << 12, SMALL], {}),
    ("DequantizeLinear", [BYTES, ONES, np.array([-9, 0, 1, 9], np.int8)], {"axis": 1}),
    ("DequantizeLinear", [BYTES.view(np.uint8), normal(8), np.full(8, 128, np.uint8)], {"axis": 3}),
    ("ReduceSum", [X], {}),
    ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
]


def model(name: str, inputs: list[Array | None], attributes: dict[str, Any]) -> onnx.ModelProto:
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(2 if name == "Split" else 1)]
    node = helper.make_node(name, names, outputs, **attributes)
    x = inputs[0]
    assert x is not None
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x0", kind, x.shape)],
        [onnx.ValueInfoProto(name=output) for output in outputs],
        [numpy_helper.from_array(v, n) for n, v in zip(names[1:], inputs[1:], strict=True) if n],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def followed(one: onnx.ModelProto, x: Array) -> list[Array]:
    graph = Graph("one", one)
    values = {**graph.constants, "x0": torch.from_numpy(x)}
    return [y.numpy() for y in graph.run(values, [output.name for output in one.graph.output])]


@pytest.mark.parametrize(("name", "inputs", "attributes"), CASES, ids=lambda x: str(x)[:40])
def test_as_onnx_runtime_computes_it(
    name: str, inputs: list[Array | None], attributes: dict[str, Any]
) -> None:
    one, x = model(name, inputs, attributes), inputs[0]
    assert x is not None
    session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
    for expected, found in zip(session.run(None, {"x0": x}), followed(one, x), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(OPERATORS)


def test_what_was_read_for_the_last_time_is_given_up() -> None:
    nodes = [
        helper.make_node("Neg", ["x0"], ["a"]),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
    ]
    inputs, outputs = ([onnx.ValueInfoProto(name=name)] for name in ("x0", "c"))
    one = helper.make_model(helper.make_graph(nodes, "one", inputs, outputs))
    values = {"x0": torch.tensor([1.0, -2.0])}
    b, c = Graph("one", one).run(values, ["b", "c"])
    assert (b.tolist(), c.tolist()) == ([1, 2], [0, 4])
    assert values.keys() == {"b", "c"}


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("Celu", [X], {}),
        ("Conv", [X, normal(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}),
        ("ConvTranspose", [X, normal(4, 3, 3, 3)], {"pads": [0, 0, 1, 1]}),
        ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], {}),
        ("Resize", [X, None, np.array([1, 2, 2, 2], np.float32)], {"mode": "linear"}),
        ("Split", [X], {"unheard_of": 1}),
        ("QuantizeLinear", [X, SMALL, np.int16(0)], {}),
        ("DequantizeLinear", [BYTES, ONES, np.zeros(4, np.int8)], {"block_size": 2}),
    ],
)
def test_what_is_not_known_is_said(
    name: str, inputs: list[Array | None], attributes: dict[str, Any]
) -> None:
    one = model(name, inputs, attributes)
    with pytest.raises(UserError, match=rf"one graph .* uses {name} .* on another engine"):
        followed(one, X)
