"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import Interface, TensorSpec
from s2svos_engines.engine import CompileCache, CpuRunner, Engine, copy_frames
from s2svos_engines.letterbox import NetworkFrame

ort.disable_telemetry_events()  # which its builds for Windows send


class OnnxRuntimeEngine(Engine):
    """One session a graph; the object count is free.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        super().__init__(bundle, precision=precision)
        self._graphs = bundle.graphs(precision)
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._sessions: CompileCache[ort.InferenceSession] = CompileCache()
        for graph in ("init", "step"):
            self.session(graph)

    def session(self, graph: str) -> ort.InferenceSession:
        """Return a graph's session, made when it is first needed."""
        return self._sessions.get(
            graph,
            lambda: ort.InferenceSession(
                self._graphs.pop(graph), self._options, providers=["CPUExecutionProvider"]
            ),
        )

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        contract = self.contract
        names = [spec.name for spec in contract.init_outputs]
        inputs = {contract.frame.name: frame, contract.first_masks.name: first_masks}
        states: States = self.session("init").run(names, inputs)
        return states

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> OnnxRuntimeRunner:
        """Return a runner that starts from a copy of ``states``."""
        return OnnxRuntimeRunner(self, states, owners)


class OnnxRuntimeRunner(CpuRunner[NDArray[Any]]):
    """Bindings from each of the two sets of state buffers to the other, bound once."""

    def __init__(
        self, engine: OnnxRuntimeEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine, states, owners)
        self._engine = engine
        self._bindings: dict[str, _Binding] = {}

    def _run(self, graph: str, frames: Sequence[NetworkFrame]) -> Masks:
        if graph not in self._bindings:
            self._bindings[graph] = self._bind(graph)
        bound = self._bindings[graph]
        copy_frames(bound.frames, frames)
        bound.session.run_with_iobinding(bound.bindings[self._current])
        return bound.masks

    def _bind(self, graph: str) -> _Binding:
        session, interface = self._engine.session(graph), self._contract.interface(graph)
        frames, masks = self._allocate(interface.inputs[0]), self._allocate(interface.outputs[0])
        fixed = [] if self._owners is None else [self._owners]
        bindings = []
        for before, after in (self._buffers, self._buffers[::-1]):
            inputs, outputs = (frames, *fixed, *before), (masks, *after)
            bindings.append(bind_arrays(session, interface, inputs, outputs))
        return _Binding(session, frames, masks, bindings)

    def _allocate(self, spec: TensorSpec) -> NDArray[Any]:
        return np.empty(self._sizes(spec), spec.dtype)

    def _read(self, buffer: NDArray[Any]) -> NDArray[np.generic]:
        return buffer

    def _write(self, buffer: NDArray[Any], value: NDArray[np.generic]) -> None:
        buffer[...] = value


def bind_arrays(
    session: ort.InferenceSession,
    interface: Interface,
    inputs: Iterable[NDArray[Any]],
    outputs: Iterable[NDArray[Any]],
) -> Any:
    """Bind arrays of the host to a graph's inputs and outputs, in the order of its interface."""
    binding = session.io_binding()
    for bind, specs, values in (
        (binding.bind_input, interface.inputs, inputs),
        (binding.bind_output, interface.outputs, outputs),
    ):
        for spec, value in zip(specs, values, strict=True):
            # By keyword: the two methods order these arguments differently.
            bind(
                name=spec.name,
                device_type="cpu",
                device_id=0,
                element_type=value.dtype.type,
                shape=value.shape,
                buffer_ptr=value.ctypes.data,
            )
    return binding


class _Binding(NamedTuple):
    session: ort.InferenceSession
    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    bindings: list[Any]  # from the first set of buffers to the second, and back
