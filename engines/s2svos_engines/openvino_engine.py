"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import HostCell, Masks, fill
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States
from s2svos_engines.frames import Picture

_CORE = ov.Core()
"""The one of this process, which is never given up.

Each core that compiles for the CPU gives the thread a stack for its signals and takes it away when
it goes (2026.4). Of two cores the second to go sets the stack of the first again, which is gone:
the next signal that has a handler, Ctrl-C for one, ends the process.
"""


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16."""
    return "BF16" in _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """Compiles one static graph for each count of objects and streams, when it is first needed.

    Static, since the CPU plugin (2026.4) fails on the step graph when the object count changes
    between calls ("Can not clone with new dims"); compiling takes about 0.2 s.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`has_bf16`.
    """

    name = "openvino"
    on_gpu = False
    ahead = 1

    def __init__(
        self, bundle: Bundle, *, threads: int, precision: str = "fp32", arithmetic: str = "f32"
    ) -> None:
        if arithmetic != "f32":
            self.name = f"{self.name} {arithmetic}"
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Without this line OpenVINO takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": arithmetic,
        }
        # Read now: a bundle may be gone by the time that an object count is first compiled.
        names = bundle.graph_names(precision)
        self._graphs = {g: bundle.graph(g, precision=precision) for g in names}
        self.batches = BATCH in names
        self._compiled: dict[tuple[str, int, int], ov.CompiledModel] = {}
        self._lock = Lock()

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        compiled = self.compiled("init", len(first_masks))
        results = compiled.create_infer_request().infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> OpenVinoCell:
        """A cell that starts from a copy of ``states``."""
        return OpenVinoCell(self, states, owners)

    def compiled(self, graph: str, objects: int, streams: int = 1) -> ov.CompiledModel:
        """A graph for numbers of objects and streams, from the cache or made now."""
        key = graph, objects, streams
        with self._lock:
            if key not in self._compiled:
                model = _CORE.read_model(self._graphs[graph], b"")
                inputs = self.contract.interface(graph).inputs
                model.reshape(
                    {
                        spec.name: list(spec.sizes(objects=objects, streams=streams))
                        for spec in inputs
                    }
                )
                self._compiled[key] = _CORE.compile_model(model, "CPU", self._settings)
            return self._compiled[key]


class OpenVinoCell(HostCell):
    """Requests over two sets of state buffers: what one writes the other reads."""

    def __init__(
        self, engine: OpenVinoEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        self._engine, self._owners = engine, owners
        self._buffers = [[self._tensor(spec) for spec in self._states] for _ in range(2)]
        # Compiled before the first frame, which would otherwise wait for it.
        self._calls = {self._graph: self._bound(self._graph)}
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        return [buffer.data for buffer in self._buffers[self._now]]

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        for buffer, value in zip(self._buffers[self._now], states, strict=True):
            buffer.data[:] = value

    def _run(self, graph: str, frames: Sequence[Picture]) -> Masks:
        if graph not in self._calls:
            self._calls[graph] = self._bound(graph)
        call = self._calls[graph]
        fill(call.pictures.data, frames)
        call.requests[self._now].infer()
        self._now = 1 - self._now
        masks: NDArray[np.uint8] = call.masks.data
        return masks

    def _bound(self, graph: str) -> _Call:
        contract = self._engine.contract
        interface = contract.interface(graph)
        compiled = self._engine.compiled(graph, self._objects, self._streams)
        (frame, *_), (mask, *_) = interface.inputs, interface.outputs
        pictures, masks = self._tensor(frame), self._tensor(mask)
        requests = []
        for before, after in (self._buffers, self._buffers[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor(frame.name, pictures)
            request.set_tensor(mask.name, masks)
            if self._owners is not None:
                request.set_tensor(interface.inputs[1].name, ov.Tensor(self._owners))
            for state, source, target in zip(contract.states, before, after, strict=True):
                request.set_tensor(state.input.name, source)
                request.set_tensor(state.output.name, target)
            requests.append(request)
        return _Call(pictures, masks, requests)

    def _tensor(self, spec: TensorSpec) -> ov.Tensor:
        shape = self._sizes(spec)
        return ov.Tensor(np.dtype(spec.dtype), ov.Shape(shape))


class _Call(NamedTuple):
    pictures: ov.Tensor
    masks: ov.Tensor
    requests: list[ov.InferRequest]  # from the first set of buffers to the second, and back
