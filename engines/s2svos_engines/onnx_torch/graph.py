"""One ONNX graph in PyTorch, executed node by node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from s2svos_engines.errors import UserError
from s2svos_engines.onnx_torch.operators import OPERATORS
from s2svos_engines.onnx_torch.spatial import Unsupported

READ = {"Resize": slice(1, 4)}  # inputs whose values decide what is done
KERNELS = ("Conv", "ConvTranspose")  # operators whose second input is one
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
        makers: by the name of a tensor, the operation that computes it.

    Raises:
        UserError: the model holds an operator that is not known here.
    """

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name = name
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
        last = {name: node for node in self.nodes for name in node.inputs if name}
        self._spent: dict[tuple[str, ...], list[str]] = {}  # by a node's outputs, what none reads
        for name, node in last.items():
            self._spent.setdefault(node.outputs, []).append(name)

    def constants_on(self, device: torch.device, *, but: Collection[str] = ()) -> dict[str, Tensor]:
        """Return the constants; those that Python reads (sizes, axes) stay on the CPU.

        Args:
            device: of the others.
            but: names of constants to leave out.
        """
        whole = {name for name, value in self.constants.items() if value.dtype in INDICES}
        inputs = (node.inputs[READ[node.operator]] for node in self.nodes if node.operator in READ)
        read = whole.union(*inputs)
        constants = {
            name: value if name in read else value.to(device)
            for name, value in self.constants.items()
            if name not in but
        }
        if device.type == "cuda":  # cuDNN's kernels for halves want channels last
            for node in self.nodes:
                if node.operator in KERNELS and (name := node.inputs[1]) in constants:
                    weight = constants[name]
                    if weight.ndim == 4:
                        constants[name] = weight.to(memory_format=torch.channels_last)
        return constants

    def run(self, values: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Compute tensors; differentiable.

        Args:
            values: inputs and constants by name, whole numbers on the CPU. Results are added, and
                taken out with all else that no later operation reads.
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
            for name in self._spent.get(node.outputs, ()):
                if name not in outputs:
                    del values[name]
        return [values[name] for name in outputs]

    def _unsupported(self, operator: str) -> UserError:
        return UserError(
            f"The {self.name} graph of the bundle uses {operator} as PyTorch is not taught to "
            "run it",
            "run the bundle on another engine than torch",
        )


def _array(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def _value(attribute: onnx.AttributeProto) -> object:
    value: object = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
