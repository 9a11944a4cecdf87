"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import Interface, TensorSpec
from s2svos_engines.cpu import int8_pays
from s2svos_engines.engine import CompileCache, CpuRunner, Engine, copy_frames
from s2svos_engines.letterbox import NetworkFrame
from s2svos_engines.profile import WARM_UP, Layer, layers, sample_input

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
        super().__init__(bundle, precision=precision, threads=threads)
        self._bundle = bundle
        self._graphs = bundle.graphs(precision)
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        # Threads that spin while they wait take the cores from decoding and writing, and from each
        # other where a virtual machine has less of a core than it seems: on two cores that were
        # busy a stream ran at 30 frames/s without, at 15 with it.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions: CompileCache[ort.InferenceSession] = CompileCache()
        for graph in ("init", "step"):
            self.session(graph)

    @classmethod
    def fast_precisions(cls) -> tuple[str, ...]:
        """Return int8 where the processor has instructions for it; fp16 it computes in fp32."""
        return ("int8",) if int8_pays() else ()

    @cached_property
    def parallel(self) -> Engine:
        """Sessions that run a step on the thread that calls them."""
        if self.threads == 1:
            return self
        return OnnxRuntimeEngine(self._bundle, threads=1, precision=self.precision)

    def session(self, graph: str) -> ort.InferenceSession:
        """Return a graph's session, made when it is first needed."""
        return self._sessions.get(
            graph,
            lambda: ort.InferenceSession(
                self._graphs.pop(graph)(), self._options, providers=["CPUExecutionProvider"]
            ),
        )

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        contract = self.contract
        names = [spec.name for spec in contract.init_outputs]
        inputs = {contract.frame.name: frame, contract.first_masks.name: first_masks}
        states: States = self.session("init").run(names, inputs)
        return states

    def profile_step(self, objects: int, *, repeats: int) -> list[Layer]:
        """Return the layers of a step with so many objects, slowest first."""
        frame, masks = sample_input(self.contract, objects)
        inputs: dict[str, NDArray[Any]] = {self.contract.frame.name: frame}
        states = self.init(frame, masks)
        inputs |= {s.input.name: x for s, x in zip(self.contract.states, states, strict=True)}
        with TemporaryDirectory(prefix="s2svos-") as folder:
            options = ort.SessionOptions()
            options.intra_op_num_threads = self._options.intra_op_num_threads
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "step")
            model = self._bundle.graph("step", precision=self.precision)
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for _ in range(WARM_UP + repeats):
                session.run(None, inputs)
            events = json.loads(Path(session.end_profiling()).read_text())
        return layers(_steps(events)[WARM_UP:])

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> OnnxRuntimeRunner:
        """Return a runner that starts from a copy of ``states``."""
        return OnnxRuntimeRunner(self, states, owners)


def _steps(events: Iterable[Mapping[str, Any]]) -> list[Counter[tuple[str, str, str]]]:
    """Return the seconds of each step by node, operator and kernel, of ONNX Runtime's events."""
    steps: list[Counter[tuple[str, str, str]]] = []
    for event in sorted(events, key=lambda event: int(event["ts"])):
        if event["name"] == "model_run":
            steps.append(Counter())
        elif event["name"].endswith("_kernel_time") and steps:
            node, operator = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            steps[-1][node, operator, event["args"]["provider"]] += event["dur"] / 1e6
    return steps


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
