"""A network's ``init`` and ``step`` as ONNX models."""

from __future__ import annotations

import warnings
from typing import Protocol

import onnx
import torch
from torch import Tensor, nn

from s2svos_engines.contract import OBJECTS, StepContract, TensorSpec

OPSET = 20
TRACED_OBJECTS = 2  # torch.export takes a size of 1 for a constant


class StepNetwork(Protocol):
    """What can be exported: a module with these, besides being an ``nn.Module``."""

    @property
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""
        ...

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Frame and first masks to the states."""
        ...

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Frame and states to the object masks and the states."""
        ...


class _Graph(nn.Module):
    """One of the two methods as a module's forward, which is what torch exports."""

    def __init__(self, network: StepNetwork, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = getattr(self.network, self.name)(*inputs)
        return outputs


def export_graph(network: StepNetwork, name: str, *, title: str) -> bytes:
    """Exports ``init`` or ``step``.

    Args:
        network: in evaluation mode, on the CPU.
        name: of the graph.
        title: what the graph is called in the model; engine caches are keyed by it, so it must
            differ between networks.

    Returns:
        The checked ONNX model.

    Raises:
        onnx.checker.ValidationError: the model is not valid ONNX.
    """
    contract = network.contract
    inputs = contract.init_inputs if name == "init" else contract.step_inputs
    outputs = contract.init_outputs if name == "init" else contract.step_outputs
    objects = torch.export.Dim(OBJECTS, min=1, max=255)
    dynamic = tuple({0: objects} if OBJECTS in spec.shape else None for spec in inputs)
    with warnings.catch_warnings():
        # torch 2.15's exporter warns of its own deprecated internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Graph(network, name),
            tuple(_example(spec) for spec in inputs),
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only the old exporter, which writes a file, returns None
    model = program.model_proto
    model.graph.name = title
    model.doc_string = f"s2svos {name} graph; uint8 RGB frame, uint8 masks, explicit state."
    for node in model.graph.node:  # stack traces with the paths of this machine
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _example(spec: TensorSpec) -> Tensor:
    shape = [TRACED_OBJECTS if size == OBJECTS else int(size) for size in spec.shape]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))
