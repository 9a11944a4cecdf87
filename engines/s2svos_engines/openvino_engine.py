"""OpenVINO on the CPU."""

from __future__ import annotations

from threading import Lock

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import OBJECTS, TensorSpec
from s2svos_engines.engine import States


class OpenVinoEngine:
    """Compiles one static graph for each object count, when it is first needed.

    Static, since the CPU plugin (2026.4) fails on the step graph when the object count changes
    between calls ("Can not clone with new dims"); compiling takes about 0.2 s.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self.contract = bundle.contract
        self._core = ov.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Without this line OpenVINO takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._graphs = {name: bundle.graph(name) for name in ("init", "step")}
        self._compiled: dict[tuple[str, int], ov.CompiledModel] = {}
        self._lock = Lock()

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        compiled = self.compiled("init", len(first_masks))
        results = compiled.create_infer_request().infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def cell(self, states: States) -> OpenVinoCell:
        """A cell that starts from a copy of ``states``."""
        return OpenVinoCell(self, states)

    def compiled(self, graph: str, objects: int) -> ov.CompiledModel:
        """A graph for a number of objects, from the cache or made now."""
        with self._lock:
            if (graph, objects) not in self._compiled:
                model = self._core.read_model(self._graphs[graph], b"")
                model.reshape(
                    {
                        port: [
                            d.get_length() if d.is_static else objects for d in port.partial_shape
                        ]
                        for port in model.inputs
                    }
                )
                self._compiled[graph, objects] = self._core.compile_model(
                    model, "CPU", self._settings
                )
            return self._compiled[graph, objects]


class OpenVinoCell:
    """Two requests over two sets of state buffers: what one writes the other reads."""

    def __init__(self, engine: OpenVinoEngine, states: States) -> None:
        contract = engine.contract
        objects = len(states[0])
        compiled = engine.compiled("step", objects)

        def tensor(spec: TensorSpec) -> ov.Tensor:
            shape = [objects if d == OBJECTS else int(d) for d in spec.shape]
            return ov.Tensor(np.dtype(spec.dtype), ov.Shape(shape))

        self._frame = tensor(contract.frame)
        self._masks = tensor(contract.object_masks)
        self._buffers = [[tensor(state.input) for state in contract.states] for _ in range(2)]
        for buffer, value in zip(self._buffers[0], states, strict=True):
            buffer.data[:] = value
        self._requests = []
        for before, after in (self._buffers, self._buffers[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor(contract.frame.name, self._frame)
            request.set_tensor(contract.object_masks.name, self._masks)
            for state, source, target in zip(contract.states, before, after, strict=True):
                request.set_tensor(state.input.name, source)
                request.set_tensor(state.output.name, target)
            self._requests.append(request)
        self._now = 0

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Probabilities times 255, uint8 [N, H, W], valid until the next step."""
        self._frame.data[:] = frame
        self._requests[self._now].infer()
        self._now = 1 - self._now
        masks: NDArray[np.uint8] = self._masks.data
        return masks

    def states(self) -> States:
        """The current state; valid until the next step."""
        return [buffer.data for buffer in self._buffers[self._now]]
