"""``init`` and ``step`` as one graph, which Triton feeds with START and the state it keeps."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.compose import add_prefix

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import ENTRIES, OBJECTS, Interface, StepContract, TensorSpec

START = TensorSpec("START", "bool", (1,))
"""True in the first request of a sequence; Triton sets it."""


def stream_interface(contract: StepContract) -> Interface:
    """Return the inputs and outputs of :func:`stream_graph`."""
    states = contract.step_inputs[1:]
    return Interface((START, contract.frame, contract.first_masks, *states), contract.step_outputs)


def stream_graph(bundle: Bundle, *, precision: str) -> bytes:
    """Return a graph that starts and continues a stream.

    If START is true it is ``init``, and gives the first masks back as the object masks. If it is
    false it is ``step``. An ``If`` node runs the one or the other, not both. ``first_masks``
    has a default (one empty mask), so that only the first request needs to bring it.

    Args:
        bundle: with the two graphs.
        precision: of the graphs.

    Returns:
        The checked ONNX model.

    Raises:
        UserError: the bundle lacks the precision.
        ValueError: the two graphs are of different opsets.
    """
    contract = bundle.contract
    init, step = (
        onnx.load_model_from_string(bundle.graph(name, precision=precision))
        for name in ("init", "step")
    )
    interface = stream_interface(contract)
    first_masks, object_masks = contract.first_masks, contract.object_masks
    start, proceed = _branch(init, "init/"), _branch(step, "step/")
    start.node.append(helper.make_node("Identity", [first_masks.name], ["init/object_masks"]))
    start.output.insert(0, _value(object_masks, name="init/object_masks", objects="first_objects"))
    choice = helper.make_node(
        "If",
        [START.name],
        [spec.name for spec in interface.outputs],
        then_branch=start,
        else_branch=proceed,
    )
    # Three counts of objects: those of the first masks, those whose state comes in (one, empty, as
    # a sequence starts), and those that leave.
    counts = {first_masks.name: "first_objects"}
    empty = np.zeros((1, contract.height, contract.width), np.uint8)
    graph = helper.make_graph(
        [choice],
        step.graph.name.replace("step", "stream"),
        [_value(spec, objects=counts.get(spec.name, OBJECTS)) for spec in interface.inputs],
        [_value(spec, objects="out_objects") for spec in interface.outputs],
        initializer=[numpy_helper.from_array(empty, first_masks.name)],
    )
    model = helper.make_model(
        graph, opset_imports=_opsets(init, step), ir_version=max(init.ir_version, step.ir_version)
    )
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _branch(model: ModelProto, prefix: str) -> GraphProto:
    """Return a model as a branch, whose inputs are values of the graph around it."""
    branch = add_prefix(model, prefix).graph
    inputs = [
        helper.make_node("Identity", [value.name], [prefix + value.name])
        for value in model.graph.input
    ]
    nodes = [*inputs, *branch.node]
    del branch.input[:], branch.node[:]
    branch.node.extend(nodes)
    return branch


def _opsets(*models: ModelProto) -> list[OperatorSetIdProto]:
    """Return the opsets that the models' nodes need; quantisers declare more than they use."""
    versions: dict[str, int] = {}
    for model in models:
        used = {node.domain for node in model.graph.node}
        for one in model.opset_import:
            if one.domain in used and versions.setdefault(one.domain, one.version) != one.version:
                raise ValueError(
                    f"init and step are of different opsets: {versions[one.domain]} and "
                    f"{one.version} of {one.domain or 'ONNX'}"
                )
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _value(spec: TensorSpec, *, objects: str, name: str | None = None) -> ValueInfoProto:
    dtype = {
        "bool": TensorProto.BOOL,
        "uint8": TensorProto.UINT8,
        "float32": TensorProto.FLOAT,
    }[spec.dtype]
    # All objects of a sequence enter with its first request.
    symbols: dict[int | str, int | str] = {OBJECTS: objects, ENTRIES: 1}
    shape = [symbols.get(size, size) for size in spec.shape]
    return helper.make_tensor_value_info(name or spec.name, dtype, shape)
