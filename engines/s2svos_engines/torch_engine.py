"""PyTorch: the reference, which executes the graphs node by node, as they are written."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import ResidentCell
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States
from s2svos_engines.torch_graph.graph import Graph


class TorchEngine:
    """Nothing is fused and nothing is compiled; the object count is free.

    No GPU has run it yet. There PyTorch convolves in TF32 unless torch.backends.cudnn.allow_tf32
    is False.

    Args:
        bundle: with the graphs.
        threads: not heeded. torch.set_num_threads is for the whole process, in which a training or
            another engine may run beside; set OMP_NUM_THREADS instead.
        precision: of the graphs.
        device: of PyTorch, for instance ``cuda``, where constants and states stay; None for the
            first GPU that PyTorch can use, or else the CPU.

    Raises:
        UserError: a graph holds what is not known in PyTorch.
    """

    name = "torch"

    def __init__(
        self, bundle: Bundle, *, threads: int, precision: str = "fp32", device: str | None = None
    ) -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        # Read now: a bundle may be gone by the time that a graph is first wanted.
        names = bundle.graph_names(precision)
        self._models = {g: bundle.graph(g, precision=precision) for g in names}
        self.batches = BATCH in names
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._programs: dict[str, _Program] = {}
        self._lock = Lock()
        for graph in ("init", "step"):
            self._program(graph)

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        return [state.cpu().numpy() for state in self.run("init", frame, first_masks)]

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> TorchCell:
        """A cell that starts from a copy of ``states``."""
        return TorchCell(self, states, owners)

    def run(self, graph: str, *inputs: NDArray[np.generic] | Tensor) -> list[Tensor]:
        """Runs a graph on arrays and on tensors of the device, in the contract's order."""
        program, interface = self._program(graph), self.contract.interface(graph)
        with torch.inference_mode():
            values = dict(program.constants)
            for spec, value in zip(interface.inputs, inputs, strict=True):
                values[spec.name] = value if isinstance(value, Tensor) else self.upload(value)
            outputs = [spec.name for spec in interface.outputs]
            return [value.contiguous() for value in program.graph.run(values, outputs)]

    def upload(self, value: NDArray[np.generic]) -> Tensor:
        """A copy on the device, by way of page-locked memory where that is a GPU."""
        copied = torch.from_numpy(np.array(value, order="C"))
        if self.device.type == "cuda":
            copied = copied.pin_memory()
        return copied.to(self.device, non_blocking=True)

    def _program(self, name: str) -> _Program:
        with self._lock:
            if name not in self._programs:
                graph = Graph(name, onnx.load_from_string(self._models.pop(name)))
                self._programs[name] = _Program(graph, graph.constants_on(self.device))
            return self._programs[name]


class TorchCell(ResidentCell):
    """Two sets of state tensors on the device: a step reads one and is copied into the other."""

    def __init__(
        self, engine: TorchEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        self._engine = engine
        self._fixed = [] if owners is None else [engine.upload(owners)]
        self._sets = [[self._tensor(spec) for spec in self._states] for _ in range(2)]
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        return [state.cpu().numpy() for state in self._sets[self._now]]

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        for state, value in zip(self._sets[self._now], states, strict=True):
            state.copy_(self._engine.upload(value))

    def _run(self, graph: str, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        before, after = self._sets[self._now], self._sets[1 - self._now]
        masks, *states = self._engine.run(graph, pictures, *self._fixed, *before)
        # A graph that passes a state on returns the tensor that it was given.
        for state, value in zip(after, states, strict=True):
            state.copy_(value)
        self._now = 1 - self._now
        found: NDArray[np.uint8] = masks.cpu().numpy()
        return found

    def _tensor(self, spec: TensorSpec) -> Tensor:
        shape = self._sizes(spec)
        return torch.empty(shape, dtype=getattr(torch, spec.dtype), device=self._engine.device)


class _Program(NamedTuple):
    graph: Graph
    constants: dict[str, Tensor]  # on the device, but for those that Python reads
