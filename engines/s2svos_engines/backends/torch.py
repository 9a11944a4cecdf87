"""PyTorch on the processor: the reference, which executes the graphs node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.arrays import Masks, States
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import TensorSpec
from s2svos_engines.engine import CompileCache, CpuRunner, Engine
from s2svos_engines.letterbox import NetworkFrame
from s2svos_engines.onnx_torch.graph import Graph


class Programs:
    """A bundle's graphs in PyTorch.

    Args:
        bundle: with the graphs.
        precision: of the graphs.
        device: where constants stay.

    Raises:
        UserError: a graph holds an operator that is not known in PyTorch.
    """

    def __init__(self, bundle: Bundle, precision: str, device: torch.device) -> None:
        self._contract, self._device = bundle.contract, device
        self._models = bundle.graphs(precision)
        self._programs: CompileCache[_Program] = CompileCache()
        for graph in ("init", "step"):
            self._program(graph)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return a graph's outputs; like the inputs in the contract's order and on the device."""
        program, interface = self._program(graph), self._contract.interface(graph)
        values = dict(program.constants)
        values.update(zip((spec.name for spec in interface.inputs), inputs, strict=True))
        return program.graph.run(values, [spec.name for spec in interface.outputs])

    def _program(self, name: str) -> _Program:
        return self._programs.get(name, lambda: self._compile(name))

    def _compile(self, name: str) -> _Program:
        graph = Graph(name, onnx.load_from_string(self._models.pop(name)()))
        return _Program(graph, graph.constants_on(self._device))


class _Program(NamedTuple):
    graph: Graph
    constants: dict[str, Tensor]  # on the device, but for those that Python reads


class TorchEngine(Engine):
    """Nothing is fused and nothing is compiled; the object count is free.

    Args:
        bundle: with the graphs.
        threads: not heeded. torch.set_num_threads is for the whole process, in which a training or
            another engine may run beside; set OMP_NUM_THREADS instead.
        precision: of the graphs.

    Raises:
        UserError: a graph holds an operator that is not known in PyTorch.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        super().__init__(bundle, precision=precision)
        self.programs = Programs(bundle, precision, torch.device("cpu"))

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        inputs = [torch.tensor(np.array(value)) for value in (frame, first_masks)]
        return [np.ascontiguousarray(x.numpy()) for x in self.programs.run("init", inputs)]

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> TorchRunner:
        """Return a runner that starts from a copy of ``states``."""
        return TorchRunner(self, states, owners)


class TorchRunner(CpuRunner[Tensor]):
    """State tensors on the processor; what a graph returns is copied into them."""

    def __init__(
        self, engine: TorchEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine, states, owners)
        self._programs = engine.programs
        self._fixed = [] if owners is None else [torch.tensor(owners)]

    def _run(self, graph: str, frames: Sequence[NetworkFrame]) -> Masks:
        before, after = self._buffers[self._current], self._buffers[1 - self._current]
        pictures = torch.tensor(np.array(frames[0] if graph == "step" else frames))
        masks, *states = self._programs.run(graph, [pictures, *self._fixed, *before])
        # A graph that passes a state on returns the tensor that it was given.
        for state, value in zip(after, states, strict=True):
            state.copy_(value)
        found: Masks = masks.numpy()
        return found

    def _allocate(self, spec: TensorSpec) -> Tensor:
        return torch.empty(self._sizes(spec), dtype=getattr(torch, spec.dtype))

    def _read(self, buffer: Tensor) -> NDArray[np.generic]:
        array: NDArray[np.generic] = buffer.numpy()
        return array

    def _write(self, buffer: Tensor, value: NDArray[np.generic]) -> None:
        buffer.copy_(torch.tensor(value))
