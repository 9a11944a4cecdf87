"""PyTorch on the processor: the reference, which executes the graphs node by node."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.arrays import Picture
from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import HostCell, Masks
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States
from s2svos_engines.onnx_torch.graph import Graph


class Programs:
    """A bundle's graphs in PyTorch.

    Args:
        bundle: with the graphs.
        precision: of the graphs.
        device: where constants stay.

    Raises:
        UserError: a graph holds what is not known in PyTorch.
    """

    def __init__(self, bundle: Bundle, precision: str, device: torch.device) -> None:
        self._contract, self._device = bundle.contract, device
        # Read now: a bundle may be gone by the time that a graph is first wanted.
        names = bundle.graph_names(precision)
        self._models = {g: bundle.graph(g, precision=precision) for g in names}
        self._programs: dict[str, _Program] = {}
        self._lock = Lock()
        for graph in ("init", "step"):
            self._program(graph)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A graph's outputs, in the contract's order as its inputs are; all on the device."""
        program, interface = self._program(graph), self._contract.interface(graph)
        values = dict(program.constants)
        values.update(zip((spec.name for spec in interface.inputs), inputs, strict=True))
        return program.graph.run(values, [spec.name for spec in interface.outputs])

    def _program(self, name: str) -> _Program:
        with self._lock:
            if name not in self._programs:
                graph = Graph(name, onnx.load_from_string(self._models.pop(name)))
                self._programs[name] = _Program(graph, graph.constants_on(self._device))
            return self._programs[name]


class _Program(NamedTuple):
    graph: Graph
    constants: dict[str, Tensor]  # on the device, but for those that Python reads


class TorchEngine:
    """Nothing is fused and nothing is compiled; the object count is free.

    Args:
        bundle: with the graphs.
        threads: not heeded. torch.set_num_threads is for the whole process, in which a training or
            another engine may run beside; set OMP_NUM_THREADS instead.
        precision: of the graphs.

    Raises:
        UserError: a graph holds what is not known in PyTorch.
    """

    name = "torch"
    on_gpu = False
    ahead = 1

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        self.batches = BATCH in bundle.graph_names(precision)
        self.programs = Programs(bundle, precision, torch.device("cpu"))

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        inputs = [torch.tensor(np.array(value)) for value in (frame, first_masks)]
        return [np.ascontiguousarray(x.numpy()) for x in self.programs.run("init", inputs)]

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> TorchCell:
        """A cell that starts from a copy of ``states``."""
        return TorchCell(self, states, owners)


class TorchCell(HostCell):
    """Two sets of state tensors: a step reads one and is copied into the other."""

    def __init__(
        self, engine: TorchEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        self._programs = engine.programs
        self._fixed = [] if owners is None else [torch.tensor(owners)]
        self._sets = [[self._tensor(spec) for spec in self._states] for _ in range(2)]
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        return [state.numpy() for state in self._sets[self._now]]

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        for state, value in zip(self._sets[self._now], states, strict=True):
            state.copy_(torch.tensor(value))

    def _run(self, graph: str, frames: Sequence[Picture]) -> Masks:
        before, after = self._sets[self._now], self._sets[1 - self._now]
        pictures = torch.tensor(np.array(frames[0] if graph == "step" else frames))
        masks, *states = self._programs.run(graph, [pictures, *self._fixed, *before])
        # A graph that passes a state on returns the tensor that it was given.
        for state, value in zip(after, states, strict=True):
            state.copy_(value)
        self._now = 1 - self._now
        found: Masks = masks.numpy()
        return found

    def _tensor(self, spec: TensorSpec) -> Tensor:
        return torch.empty(self._sizes(spec), dtype=getattr(torch, spec.dtype))
