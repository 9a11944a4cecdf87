"""A bundle's network in PyTorch, built from its graphs alone: run, tuned and written back.

The tuned network is exactly what the engines run, with BatchNorm folded into the convolutions,
whatever network was exported. A weight is known by its initializer's name, which both graphs use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import StepContract, TensorSpec
from s2svos_engines.onnx_torch.graph import Graph, Node

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TO_BYTES = ("Cast", "Add", "Mul", "Squeeze", "Reshape")


class BundleNetwork:
    """The network of a bundle, with the step contract of the network that was exported.

    Args:
        bundle: with fp32 graphs.
        device: to compute on.

    Attributes:
        contract: of the graphs.
        device: that computes.
        weights: every kernel and bias by name, on the device. A name of different values in the two
            graphs is here twice, once with its graph's name before it. A bias of zeros is missing,
            since the exporter leaves it out.
        recurrent: names of the weights of the ConvLSTM's gates.

    Raises:
        UserError: the bundle has no fp32 graphs, or they have an unknown operator.
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu") -> None:
        self.contract = bundle.contract
        self.device = torch.device(device)
        self.weights: dict[str, Tensor] = {}
        self._models, self._graphs, self._constants, self._keys = {}, {}, {}, {}
        for name in ("init", "step"):
            self._models[name] = onnx.load_from_string(bundle.graph(name))
            graph = Graph(name, self._models[name])
            weights = {kernel for node in graph.nodes for kernel in _kernels(graph, node)}
            self._graphs[name] = graph
            self._keys[name] = {weight: self._register(graph, weight) for weight in sorted(weights)}
            self._constants[name] = graph.constants_on(self.device, but=weights)
        step = self._graphs["step"]
        self.recurrent = {self._keys["step"][name] for name in _gates(step, self.contract)}
        self._probabilities = _probabilities(step, self.contract)

    def _register(self, graph: Graph, name: str) -> str:
        """Copy a constant to the weights and return its name there."""
        value, twin = graph.constants[name], self._graphs["init"].constants.get(name)
        if twin is not None and not torch.equal(twin, value):
            name = f"{graph.name}/{name}"
        self.weights[name] = value.to(self.device, copy=True)
        return name

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Run the ``init`` graph.

        Args:
            frame: uint8 [H, W, 3], RGB.
            first_masks: uint8 [N, H, W], 0 to 255.

        Returns:
            The states in the contract's order.
        """
        outputs = [spec.name for spec in self.contract.init_outputs]
        return self._run("init", self.contract.init_inputs, (frame, first_masks), outputs)

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Run the ``step`` graph on a frame, uint8 [H, W, 3], RGB.

        Returns:
            Masks, uint8 [N, H, W], then the states.
        """
        outputs = [spec.name for spec in self.contract.step_outputs]
        return self._run("step", self.contract.step_inputs, (frame, *states), outputs)

    def advance(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the ``step`` graph.

        Returns:
            The logits of the masks' probabilities, float [N, H, W], and the states.
        """
        outputs = [self._probabilities, *(spec.name for spec in self.contract.init_outputs)]
        found, *after = self._run("step", self.contract.step_inputs, (frame, *states), outputs)
        size = (self.contract.height, self.contract.width)
        return torch.logit(found.reshape(-1, *size), eps=1e-6), tuple(after)

    def graphs(self) -> dict[str, bytes]:
        """Return the ONNX models of ``init`` and ``step`` with the present weights."""
        digest = hashlib.sha256()
        for value in self.weights.values():
            digest.update(value.detach().cpu().numpy().tobytes())
        models = {}
        for name, original in self._models.items():
            model = onnx.ModelProto()
            model.CopyFrom(original)
            # Engine caches are keyed by the title, so it must differ between networks.
            model.graph.name += f"_{digest.hexdigest()[:12]}"
            for tensor in model.graph.initializer:
                if key := self._keys[name].get(tensor.name):
                    array = self.weights[key].detach().cpu().numpy()
                    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            models[name] = model.SerializeToString()
        return models

    def _run(
        self,
        name: str,
        specs: Sequence[TensorSpec],
        inputs: Sequence[Tensor],
        outputs: Sequence[str],
    ) -> tuple[Tensor, ...]:
        values = dict(self._constants[name])
        values.update({kernel: self.weights[key] for kernel, key in self._keys[name].items()})
        values.update({spec.name: x for spec, x in zip(specs, inputs, strict=True)})
        return tuple(self._graphs[name].run(values, outputs))


def _kernels(graph: Graph, node: Node) -> list[str]:
    """Return the names of a node's weights: kernel and bias of a convolution or matrix product."""
    if node.operator not in _WEIGHTED:
        return []
    constants = [name for name in node.inputs if name in graph.constants]
    return [name for name in constants if graph.constants[name].is_floating_point()]


def _gates(step: Graph, contract: StepContract) -> set[str]:
    """Return the names of the ConvLSTM's weights.

    These are next to a state that is carried on without any weights in between. A memory that is
    written anew every frame, such as that of the previous mask, is no such state.
    """
    carried = {state.input.name for state in contract.states}
    gates: set[str] = set()
    for state in contract.states:
        nodes = list(_behind(step, state.output.name))
        weightless = [node for node in nodes if not _kernels(step, node)]
        if any(carried.intersection(node.inputs) for node in weightless):
            gates.update(name for node in nodes for name in _kernels(step, node))
    return gates


def _probabilities(step: Graph, contract: StepContract) -> str:
    """Return the name of the tensor whose values, times 255, are the object masks."""
    name = contract.object_masks.name
    while (node := step.makers[name]).operator in _TO_BYTES:
        name = next(each for each in node.inputs if each not in step.constants)
    return name


def _behind(graph: Graph, name: str) -> Iterator[Node]:
    """Yield the nodes that a tensor's values come from, back to the nearest weights."""
    waiting, seen = [name], set()
    while waiting:
        node = graph.makers.get(waiting.pop())
        if node is None or node.outputs in seen or node.operator == "Shape":
            continue
        seen.add(node.outputs)
        yield node
        if not _kernels(graph, node):
            waiting.extend(node.inputs)
