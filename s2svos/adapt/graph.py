"""One ONNX graph in PyTorch, executed node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from s2svos.adapt.operators import OPERATORS
from s2svos.adapt.spatial import Unsupported
from s2svos_engines.errors import UserError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
READ = {"Pad": slice(1, 4), "Resize": slice(1, 4)}  # inputs whose values decide what is done
INDICES = (torch.int32, torch.int64)


class Node(NamedTuple):
    """One operation; an input that is left out is named ''."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object]


class Graph:
    """The operations of an ONNX model, in order, and its constants.

    Args:
        name: of the graph, for messages.
        model: as in the bundle; it is not changed.

    Attributes:
        constants: the initializers by name, on the CPU.
        nodes: the operations.

    Raises:
        UserError: the model holds an operator that is not known here.
    """

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name, self.model = name, model
        self.constants = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
        self.nodes: list[Node] = []
        for proto in model.graph.node:
            if proto.op_type == "Constant" and proto.attribute[0].name == "value":
                self.constants[proto.output[0]] = _array(proto.attribute[0].t)
            elif proto.domain or proto.op_type not in OPERATORS:
                raise self._unsupported(proto.op_type)
            else:
                attributes = {a.name: _value(a) for a in proto.attribute}
                inputs, outputs = tuple(proto.input), tuple(proto.output)
                self.nodes.append(Node(proto.op_type, inputs, outputs, attributes))
        self.makers = {output: node for node in self.nodes for output in node.outputs}

    def kernels(self, node: Node) -> list[str]:
        """Names of a node's weights: kernel and bias of a convolution or matrix product."""
        if node.operator not in WEIGHTED:
            return []
        constants = [name for name in node.inputs if name in self.constants]
        return [name for name in constants if self.constants[name].is_floating_point()]

    def read(self) -> set[str]:
        """Constants that Python reads, which therefore stay on the CPU: sizes, axes, indices."""
        whole = {name for name, value in self.constants.items() if value.dtype in INDICES}
        inputs = (node.inputs[READ[node.operator]] for node in self.nodes if node.operator in READ)
        return whole.union(*inputs)

    def behind(self, name: str) -> Iterator[Node]:
        """The nodes that a tensor's values come from, as far back as the nearest weights."""
        waiting, seen = [name], set()
        while waiting:
            node = self.makers.get(waiting.pop())
            if node is None or node.outputs in seen or node.operator == "Shape":
                continue
            seen.add(node.outputs)
            yield node
            if not self.kernels(node):
                waiting.extend(node.inputs)

    def run(self, values: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Computes tensors; differentiable.

        Args:
            values: inputs and constants by name, whole numbers on the CPU; all results are added.
            outputs: names of the tensors that are wanted.

        Raises:
            UserError: an operator is used in a way that is not known here.
        """
        for node in self.nodes:
            arguments = [values[name] if name else None for name in node.inputs]
            try:
                made = OPERATORS[node.operator](*arguments, **node.attributes)
            except (Unsupported, TypeError) as error:
                raise self._unsupported(node.operator) from error
            results = made if isinstance(made, tuple) else (made,)
            values.update(zip(node.outputs, results, strict=True))
        return [values[name] for name in outputs]

    def _unsupported(self, operator: str) -> UserError:
        return UserError(
            f"The {self.name} graph of the bundle uses {operator} as online learning does not know "
            "it; run it without --adapt."
        )


def _array(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def _value(attribute: onnx.AttributeProto) -> object:
    value: object = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
