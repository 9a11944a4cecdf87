"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.arrays import Picture
from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import HostCell, Masks, fill
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States


class OnnxRuntimeEngine:
    """One session a graph; the object count is free."""

    name = "onnxruntime"
    on_gpu = False
    ahead = 1

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        # Read now: a bundle may be gone by the time that a graph is first wanted.
        names = bundle.graph_names(precision)
        self._graphs = {g: bundle.graph(g, precision=precision) for g in names}
        self.batches = BATCH in names
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._lock = Lock()
        for graph in ("init", "step"):
            self.session(graph)

    def session(self, graph: str) -> ort.InferenceSession:
        """A graph, from the cache or made now."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = ort.InferenceSession(
                    self._graphs.pop(graph), self._options, providers=["CPUExecutionProvider"]
                )
            return self._sessions[graph]

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        contract = self.contract
        names = [spec.name for spec in contract.init_outputs]
        inputs = {contract.frame.name: frame, contract.first_masks.name: first_masks}
        states: States = self.session("init").run(names, inputs)
        return states

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> OnnxRuntimeCell:
        """A cell that starts from a copy of ``states``."""
        return OnnxRuntimeCell(self, states, owners)


class OnnxRuntimeCell(HostCell):
    """Bindings over two sets of state buffers: what one writes the other reads."""

    def __init__(
        self, engine: OnnxRuntimeEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        self._engine, self._owners = engine, owners
        self._buffers = [[self._array(spec) for spec in self._states] for _ in range(2)]
        self._calls: dict[str, _Call] = {}
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        return self._buffers[self._now]

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        for buffer, value in zip(self._buffers[self._now], states, strict=True):
            buffer[...] = value

    def _run(self, graph: str, frames: Sequence[Picture]) -> Masks:
        if graph not in self._calls:
            self._calls[graph] = self._bound(graph)
        call = self._calls[graph]
        fill(call.pictures, frames)
        call.session.run_with_iobinding(call.bindings[self._now])
        self._now = 1 - self._now
        return call.masks

    def _bound(self, graph: str) -> _Call:
        session, interface = self._engine.session(graph), self._engine.contract.interface(graph)
        pictures, masks = self._array(interface.inputs[0]), self._array(interface.outputs[0])
        fixed = [] if self._owners is None else [self._owners]
        bindings = []
        for before, after in (self._buffers, self._buffers[::-1]):
            binding = session.io_binding()
            inputs = zip(interface.inputs, (pictures, *fixed, *before), strict=True)
            outputs = zip(interface.outputs, (masks, *after), strict=True)
            for bind, pairs in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for spec, value in pairs:
                    # By keyword: the two methods order these arguments differently.
                    bind(
                        name=spec.name,
                        device_type="cpu",
                        device_id=0,
                        element_type=value.dtype.type,
                        shape=value.shape,
                        buffer_ptr=value.ctypes.data,
                    )
            bindings.append(binding)
        return _Call(session, pictures, masks, bindings)

    def _array(self, spec: TensorSpec) -> NDArray[Any]:
        return np.empty(self._sizes(spec), spec.dtype)


class _Call(NamedTuple):
    session: ort.InferenceSession
    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    bindings: list[Any]  # from the first set of buffers to the second, and back
